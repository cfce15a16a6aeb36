"""A job leaves early enough for its last step and checkpoint."""

from __future__ import annotations

import time
from itertools import cycle
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.training.checkpoint.format import steps_in
from megatron_nlg.training.deadline import LEAVING_SECONDS, Deadline
from megatron_nlg.training.trainer import Trainer
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.training.test_trainer import curve
from tests.tiny import tiny
from tests.world import World


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.floats(0.0, 10), st.floats(5, 100))
def test_steps_and_checkpoints_no_longer_than_before_end_in_time(steps: list[float], save: float, limit: float) -> None:
    now = 0.0
    deadline = Deadline(limit, lambda: now)
    longest = max(steps)
    deadline.step_is_done()
    now += longest
    deadline.save_begins()
    now += save
    deadline.save_is_done()
    training = cycle(steps)
    while not deadline.step_is_done():
        now += next(training)
    if now > longest + save:  # not too late from the start
        assert now + save + LEAVING_SECONDS <= limit


def test_none_is_never() -> None:
    assert not Deadline().step_is_done()


def limited(config: RunConfig, folder: Path, seconds: float | None) -> str:
    folder.mkdir(exist_ok=True)
    trainer = Trainer(config, folder, deadline=None if seconds is None else time.time() + seconds)
    status = trainer.train()
    trainer.close()
    return status


def test_a_run_that_left_in_time_goes_on_as_if_it_had_not(world: World, tmp_path: Path) -> None:
    blend = write_corpus(tmp_path / "corpus")
    config = tiny(f"data.blend={blend}", f"schedule.train_tokens={16 * 32 * 4}", "evaluation.batches=0")
    assert world.run(1, limited, config, tmp_path / "whole", None) == ["done"]
    assert world.run(1, limited, config, tmp_path / "cut", 0.0) == ["time"]
    assert steps_in(tmp_path / "cut" / "checkpoints") == [1]
    assert world.run(1, limited, config, tmp_path / "cut", 1000.0) == ["done"]
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
