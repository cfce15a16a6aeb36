"""What a terminal shows below the log while training: a bar, the loss as a sparkline, rates, validation by source."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from megatron_nlg.training.callbacks.base import StepMetrics, ValidationRow

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 60
"""Steps of a sparkline."""


class LiveView:
    """Keeps itself up to date on a console until it is stopped, and then goes away."""

    def __init__(self, console: Console, done: int, total: int):
        self.losses: deque[float] = deque(maxlen=WIDTH)
        self.metrics: StepMetrics | None = None
        self.valid: dict[str, tuple[float, float | None]] = {}
        """Source -> its last loss, and the one before."""
        self.accuracy: dict[str, float] = {}
        """Source -> a classifier's last accuracy."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("training", total=total, completed=done)
        self._live = Live(self, console=console, transient=True, refresh_per_second=4)
        self._live.start()

    def at(self, done: int) -> None:
        """Steps that are done."""
        self._bar.update(self._task, completed=done)

    def step(self, metrics: StepMetrics) -> None:
        """A row of metrics."""
        self.metrics = metrics
        self.losses.append(metrics.loss)

    def validation(self, rows: Sequence[ValidationRow]) -> None:
        """Rows of validation."""
        for row in rows:
            before = self.valid.get(row.source)
            self.valid[row.source] = (row.loss, before[0] if before else None)
            if row.accuracy is not None:
                self.accuracy[row.source] = row.accuracy

    def stop(self) -> None:
        """Leave the terminal."""
        self._live.stop()

    def __rich__(self) -> Group:
        table = Table.grid(padding=(0, 2))
        if self.metrics:
            row = self.metrics
            mfu = f", MFU {row.mfu:.1%}" if row.mfu is not None else ""
            waits = row.data_seconds / row.step_seconds if row.step_seconds else 0.0
            table.add_row("loss", Text(f"{row.loss:.4f}  {sparkline(list(self.losses))}"))
            table.add_row("rate", Text(f"{row.tokens_per_second:,.0f} tokens/s{mfu}, waits for data {waits:.0%}"))
        for source, (loss, before) in self.valid.items():
            change = f"  {loss - before:+.4f}" if before is not None else ""
            right = f"  accuracy {self.accuracy[source]:.4f}" if source in self.accuracy else ""
            table.add_row("validation", Text(f"{source} {loss:.4f}{change}{right}"))
        return Group(table, self._bar.get_renderable())


def sparkline(values: Sequence[float]) -> str:
    """Values as blocks between their least and greatest; what is no finite number as a question mark."""
    finite = [value for value in values if abs(value) < float("inf")]
    if not finite:
        return "?" * len(values)
    # Halves, because the difference of two numbers may be too large for one.
    low, span = min(finite) / 2, max(finite) / 2 - min(finite) / 2
    steps = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round((value / 2 - low) / span * steps) if span else 0] if abs(value) < float("inf") else "?"
        for value in values
    )
