"""The line a person watches: one a log interval on rank 0's stderr, above a live view when that is a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from megatron_nlg.training.callbacks.base import Callback, Run, StepMetrics, ValidationRow
from megatron_nlg.training.callbacks.live import LiveView
from megatron_nlg.training.throughput import Throughput


class LogConsole(Console):
    """A console that falls silent when its pipe is closed; rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        """The reader has gone: training goes on."""
        self.quiet = True


class ProgressLine(Callback):
    """Prints metrics, validation and checkpoints. Rank 0 only; never fails a run whose terminal has gone away."""

    def __init__(self, console: Console | None = None):
        self.console = console or LogConsole(stderr=True, highlight=False, soft_wrap=True)
        self._live: LiveView | None = None

    def on_start(self, run: Run) -> None:
        """Say where training starts and what throughput means; on a terminal also open the live view."""
        if not run.is_main:
            return
        begins = f"resumes after step {run.start_step}" if run.start_step else "starts"
        self._print(f"training {begins}: {run.total_steps} steps, {run.layout}, {run.device_name}")
        self._print(Throughput(run.config, run.layout.world_size, run.device_name).header())
        if self.console.is_terminal:
            self._live = LiveView(self.console, run.start_step, run.total_steps)

    def on_step_start(self, run: Run, step: int) -> None:
        """Move the bar."""
        if self._live:
            self._live.at(step - 1)

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Print the line of a step."""
        if self._live:
            self._live.step(metrics)
        if run.is_main:
            self._print(step_line(metrics, run.total_steps))

    def on_validation(self, run: Run, rows: Sequence[ValidationRow]) -> None:
        """Print one line with every source."""
        if self._live:
            self._live.validation(rows)
        if run.is_main and rows:
            sources = "  ".join(f"{row.source} {row.text()}" for row in rows)
            self._print(f"step {rows[0].step:>{len(str(run.total_steps))}}  validation  {sources}")

    def on_checkpoint(self, run: Run, step: int, path: Path) -> None:
        """Say that a checkpoint is complete."""
        if run.is_main:
            self._print(f"step {step:>{len(str(run.total_steps))}}  checkpoint {path}")

    def on_event(self, run: Run, event: Mapping[str, Any]) -> None:
        """Print an event with what it carries."""
        if run.is_main:
            rest = "  ".join(f"{key} {value}" for key, value in event.items() if key not in ("event", "step"))
            step = f"step {event['step']:>{len(str(run.total_steps))}}  " if "step" in event else ""
            self._print(f"{step}{event.get('event', 'event')}  {rest}".rstrip())

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Close the live view and say how it ended."""
        if self._live:
            self._live.stop()
            self._live = None
        if run.is_main:
            self._print(f"training ends after step {step} of {run.total_steps}: {status}")

    def _print(self, line: str) -> None:
        try:
            self.console.print(line, markup=False)
        except OSError:  # a terminal that was closed is no reason to stop training
            self.console.quiet = True


def step_line(metrics: StepMetrics, total_steps: int) -> str:
    """`step  120/2000  loss 2.3456  grad norm 0.983  lr 3.00e-04  batch 12  12,345 tokens/s  0.31 s  left 9:42`."""
    width = len(str(total_steps))
    parts = [
        f"step {metrics.step:>{width}}/{total_steps}",
        f"loss {metrics.loss:.4f}",
        f"grad norm {metrics.grad_norm:.3f}",
        f"lr {metrics.lr:.2e}",
        f"batch {metrics.batch_size}",
        f"{metrics.tokens_per_second:,.0f} tokens/s",
        f"{metrics.step_seconds:.3g} s",
        f"{metrics.model_tflops_per_gpu:.3g} TFLOP/s",
    ]
    if metrics.mfu is not None:
        parts.append(f"MFU {100 * metrics.mfu:.1f} %")
    return "  ".join([*parts, f"left {clock((total_steps - metrics.step) * metrics.step_seconds)}"])


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
