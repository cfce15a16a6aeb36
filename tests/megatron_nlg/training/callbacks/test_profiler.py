"""A real trace of the asked steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from megatron_nlg.training.callbacks.profiler import MemorySnapshot, Profiler, requested, trace_path
from tests.megatron_nlg.training.callbacks.example import run_in


def train(folder: Path, *, start: int, end: int, steps: str = "[3, 4]", ask: dict[int, str] | None = None) -> None:
    run, callback = run_in(folder, f"log.profile_steps={steps}", start_step=start), Profiler()
    callback.on_start(run)
    for step in range(start + 1, end + 1):
        if ask and step in ask:
            (folder / "profile").write_text(ask[step])
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


def test_a_file_asks_for_the_next_steps(tmp_path: Path) -> None:
    train(tmp_path, start=0, end=9, steps="null", ask={2: "", 7: "2\n"})
    assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == ["trace_steps_2-4.json", "trace_steps_7-8.json"]
    assert products(trace_path(tmp_path, 2, 4)) == 3
    assert not (tmp_path / "profile").exists()


def test_a_range_that_begins_when_another_ends(tmp_path: Path) -> None:
    train(tmp_path, start=0, end=6, ask={1: "2"})
    assert products(trace_path(tmp_path, 1, 2)) == products(trace_path(tmp_path, 3, 4)) == 2


@pytest.mark.parametrize(("text", "steps"), [("", 3), ("5\n", 5), ("0", 3), ("some", 3), ("\udcff", 3)])
def test_what_a_file_asks_for(tmp_path: Path, text: str, steps: int) -> None:
    path = tmp_path / "profile"
    path.write_text(text, errors="surrogateescape")
    assert requested(path) == steps
    assert requested(path) is None


def test_a_memory_snapshot_on_the_cpu_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, callback = run_in(tmp_path), MemorySnapshot()
    (tmp_path / "memory_snapshot").touch()
    for step in (1, 2):
        callback.on_step_start(run, step)
    callback.on_end(run, 2, "done")
    assert capsys.readouterr().err.count("only CUDA's allocator keeps a history") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_memory_snapshot_of_the_next_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str | None] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda enabled="all": calls.append(enabled))
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", lambda path: Path(path).write_text("snapshot"))
    run, callback = run_in(tmp_path), MemorySnapshot()
    for step in range(1, 6):
        if step == 2:
            (tmp_path / "memory_snapshot").write_text("2")
        callback.on_step_start(run, step)
    assert [p.name for p in (tmp_path / "logs").iterdir()] == ["memory_steps_2-3.pickle"]
    assert calls == ["all", None]
