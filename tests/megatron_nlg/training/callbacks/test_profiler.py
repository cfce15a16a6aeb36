"""A real trace of the asked steps."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from megatron_nlg.training.callbacks.profiler import Profiler, trace_path
from tests.megatron_nlg.training.callbacks.example import run_in


def train(folder: Path, *, start: int, end: int) -> None:
    run, callback = run_in(folder, "log.profile_steps=[3, 4]", start_step=start), Profiler()
    callback.on_start(run)
    for step in range(start + 1, end + 1):
        callback.on_step_start(run, step)
        torch.ones(step, step) @ torch.ones(step, step)
    callback.on_end(run, end, "done")


def products(path: Path) -> int:
    return sum(event.get("name") == "aten::mm" for event in json.loads(path.read_text())["traceEvents"])


def test_only_the_range_is_recorded(tmp_path: Path) -> None:
    train(tmp_path, start=0, end=6)
    assert [p.name for p in (tmp_path / "logs").iterdir()] == ["trace_steps_3-4.json"]
    assert products(trace_path(tmp_path, 3, 4)) == 2


def test_training_that_ends_or_resumes_inside_the_range(tmp_path: Path) -> None:
    train(tmp_path, start=0, end=3)
    train(tmp_path, start=3, end=5)
    assert products(trace_path(tmp_path, 3, 3)) == products(trace_path(tmp_path, 4, 4)) == 1


def test_nothing_outside_the_range(tmp_path: Path) -> None:
    train(tmp_path, start=4, end=6)
    assert list(tmp_path.iterdir()) == []
