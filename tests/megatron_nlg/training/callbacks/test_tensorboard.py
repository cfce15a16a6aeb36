"""What TensorBoard itself reads back, across a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from megatron_nlg.training.callbacks.tensorboard import TensorBoard
from tests.megatron_nlg.training.callbacks.example import metrics, run_in, validation


def test_scalars_and_a_resume_that_goes_on_as_one_curve(tmp_path: Path) -> None:
    for start, end in ((0, 5), (3, 6)):
        run, callback = run_in(tmp_path, start_step=start), TensorBoard()
        callback.on_start(run)
        for step in range(start + 1, end + 1):
            callback.on_step(run, metrics(step, loss=5.0 - step + start / 100))
        callback.on_validation(run, validation(end))
        callback.on_end(run, end, "done")

    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    scalars = read.Scalars("train/loss")
    assert [s.step for s in scalars] == [1, 2, 3, 4, 5, 6]
    assert scalars[4].value == pytest.approx(0.03)  # of the resumed run
    assert [s.value for s in read.Scalars("valid/code/loss")] == pytest.approx([2.4])
    assert "train/mfu" not in read.Tags()["scalars"]
