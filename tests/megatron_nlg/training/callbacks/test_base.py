"""The base does nothing, and other ranks than 0 write nothing."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.training.callbacks.base import Callback
from megatron_nlg.training.callbacks.metrics import MetricsFile
from megatron_nlg.training.callbacks.profiler import Profiler
from megatron_nlg.training.callbacks.progress import ProgressLine
from megatron_nlg.training.callbacks.tensorboard import TensorBoard
from megatron_nlg.training.callbacks.wandb import WandB
from tests.megatron_nlg.training.callbacks.example import metrics, run_in, validation


def test_every_hook_has_a_default(tmp_path: Path) -> None:
    run, callback = run_in(tmp_path), Callback()
    callback.on_start(run)
    callback.on_step_start(run, 1)
    callback.on_step(run, metrics(1))
    callback.on_validation(run, validation(1))
    callback.on_checkpoint(run, 1, tmp_path)
    callback.on_event(run, {"event": "signal", "step": 1})
    callback.on_end(run, 1, "done")
    assert list(tmp_path.iterdir()) == []


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    run = run_in(tmp_path, "log.tensorboard=true", "log.wandb=true", "log.profile_steps=[1, 1]", is_main=False)
    for callback in (ProgressLine(), MetricsFile(), TensorBoard(), WandB(), Profiler()):
        callback.on_start(run)
        callback.on_step_start(run, 1)
        callback.on_step(run, metrics(1))
        callback.on_validation(run, validation(1))
        callback.on_checkpoint(run, 1, tmp_path)
        callback.on_event(run, {"event": "signal", "step": 1})
        callback.on_end(run, 1, "done")
    assert list(tmp_path.iterdir()) == []
