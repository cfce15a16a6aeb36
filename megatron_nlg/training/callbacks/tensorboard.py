"""TensorBoard event files in `tensorboard/` of the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from megatron_nlg.training.callbacks.base import Callback, Run, StepMetrics, ValidationRow

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Callback):
    """Scalars over steps. Rank 0 only."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    def on_start(self, run: Run) -> None:
        """Open a new event file; what earlier ones hold beyond the checkpoint is hidden."""
        if run.is_main:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.start_step + 1, flush_secs=10)

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Every number of the row as `train/NAME`."""
        if self._writer:
            for name, value in asdict(metrics).items():
                if name != "step" and value is not None:
                    self._writer.add_scalar(f"train/{name}", value, metrics.step)

    def on_validation(self, run: Run, rows: Sequence[ValidationRow]) -> None:
        """`valid/SOURCE/loss` and its perplexity, or accuracy and f1."""
        if self._writer:
            for row in rows:
                for name, value in row.measures.items():
                    self._writer.add_scalar(f"valid/{row.source}/{name}", value, row.step)

    def on_rollback(self, run: Run, step: int) -> None:
        """Hide the steps that are taken again: a new event file that begins after `step`."""
        if self._writer:
            self._writer.close()
            self._writer = None
            self.on_start(replace(run, start_step=step))

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Write out and close."""
        if self._writer:
            self._writer.close()
            self._writer = None
