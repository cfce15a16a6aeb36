"""The base does nothing, and the standard list follows the config."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.training.callbacks import standard_callbacks
from megatron_nlg.training.callbacks.base import Callback
from tests.megatron_nlg.training.callbacks.example import metrics, run_in, validation
from tests.tiny import tiny


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


def test_standard_callbacks_follow_the_log_section() -> None:
    def names(*overrides: str) -> list[str]:
        return [type(c).__name__ for c in standard_callbacks(tiny(*overrides))]

    assert names() == ["ProgressLine", "MetricsFile"]
    assert names("log.tensorboard=true", "log.wandb=true", "log.profile_steps=[2, 3]") == [
        *("ProgressLine", "MetricsFile"),
        *("TensorBoard", "WandB", "Profiler"),
    ]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    run = run_in(tmp_path, "log.tensorboard=true", "log.wandb=true", "log.profile_steps=[1, 1]", is_main=False)
    for callback in standard_callbacks(run.config):
        callback.on_start(run)
        callback.on_step_start(run, 1)
        callback.on_step(run, metrics(1))
        callback.on_validation(run, validation(1))
        callback.on_checkpoint(run, 1, tmp_path)
        callback.on_event(run, {"event": "signal", "step": 1})
        callback.on_end(run, 1, "done")
    assert list(tmp_path.iterdir()) == []
