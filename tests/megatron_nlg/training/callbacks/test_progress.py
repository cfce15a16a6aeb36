"""The line, plain and on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from megatron_nlg.training.callbacks.base import ValidationRow
from megatron_nlg.training.callbacks.progress import LogConsole, ProgressLine, clock, step_line
from tests.megatron_nlg.training.callbacks.example import metrics, run_in, validation


def drive(callback: ProgressLine, folder: Path) -> None:
    run = run_in(folder, start_step=4)
    callback.on_start(run)
    for step in (5, 6):
        callback.on_step_start(run, step)
        callback.on_step(run, metrics(step))
    callback.on_validation(run, validation(6))
    callback.on_checkpoint(run, 6, folder / "checkpoints" / "[b]step_6")
    callback.on_event(run, {"event": "signal", "step": 6, "signal": "SIGTERM"})
    callback.on_end(run, 6, "signal")


def test_plain_lines_when_not_a_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    drive(ProgressLine(Console(file=out, highlight=False, soft_wrap=True)), tmp_path)
    lines = out.getvalue().splitlines()
    assert "model FLOPs per token = 6·L·(2h² + 2hk + 2hf)" in lines.pop(1)
    assert lines[0] == "training resumes after step 4: 20 steps, tensor 2 × pipeline 2 × data 2, cpu"
    assert lines[1].startswith("step  5/20  loss 4.5000  grad norm 1.250  lr 1.00e-03  batch 16  1,024 tokens/s")
    assert lines[3] == "step  6  validation  docs 3.4000 (perplexity 50)  code 2.4000 (perplexity 20)"
    assert lines[4] == f"step  6  checkpoint {tmp_path}/checkpoints/[b]step_6"
    assert lines[5] == "step  6  signal  signal SIGTERM"
    assert lines[6] == "training ends after step 6 of 20: signal"
    assert len(lines) == 7
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_a_live_view_that_goes_away(tmp_path: Path) -> None:
    out = io.StringIO()
    callback = ProgressLine(Console(file=out, force_terminal=True, width=120, highlight=False, soft_wrap=True))
    drive(callback, tmp_path)
    assert "/20" in out.getvalue()
    assert "loss 4.5000" in out.getvalue()
    assert callback._live is None


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error")])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_closed_terminal_does_not_end_training(tmp_path: Path, error: OSError, terminal: bool) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    drive(ProgressLine(LogConsole(file=Closed(), force_terminal=terminal, soft_wrap=True)), tmp_path)


def test_line_tells_mfu_when_known_and_the_time_left() -> None:
    assert step_line(metrics(10, mfu=0.4123), 20).endswith("MFU 41.2 %  left 0:05")
    assert "MFU" not in step_line(metrics(10), 20)


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3600, 90_061)] == ["0:00", "1:00", "1:01", "1:00:00", "25:01:01"]


def test_a_classifiers_validation_tells_accuracy_and_f1(tmp_path: Path) -> None:
    row = ValidationRow(6, "validation", 0.4321, None, accuracy=0.875, f1=0.86, examples=8)
    for terminal in (False, True):
        out = io.StringIO()
        callback = ProgressLine(Console(file=out, force_terminal=terminal, width=120, soft_wrap=True, highlight=False))
        run = run_in(tmp_path)
        callback.on_start(run)
        callback.on_step(run, metrics(6))
        callback.on_validation(run, [row])
        callback.on_end(run, 6, "done")
        assert "validation 0.4321 (accuracy 0.8750, F1 0.8600)" in out.getvalue()
    assert "validation 0.4321  accuracy 0.8750" in out.getvalue()  # the live view
