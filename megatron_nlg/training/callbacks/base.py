"""The events a training run tells its callbacks of, and what it hands them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.layout import Layout


@dataclass(frozen=True)
class Run:
    """What a callback may know of the run it watches."""

    config: RunConfig
    folder: Path
    """The run folder."""
    is_main: bool
    """Whether this is global rank 0, the only one that writes."""
    layout: Layout
    start_step: int
    """Steps that were done before this process started: 0, or the step of the checkpoint it goes on from."""
    total_steps: int
    device_name: str


@dataclass(frozen=True)
class StepMetrics:
    """One row of metrics.jsonl: a step that has been taken. Fetched from the device on log intervals only."""

    step: int
    """Steps done, this one included: the first is 1."""
    samples: int
    """Sequences consumed, this step included."""
    tokens: int
    """Tokens consumed, this step included."""
    loss: float
    """Mean over the step's tokens, in nats per token."""
    grad_norm: float
    """Global L2 norm before clipping."""
    lr: float
    """Learning rate of this step."""
    batch_size: int
    """Sequences in this step."""
    step_seconds: float
    """Wall time of a step, in seconds; the mean since the last row."""
    tokens_per_second: float
    """Of the whole job."""
    model_tflops_per_gpu: float
    """Model TFLOP/s of one device (throughput.py)."""
    mfu: float | None
    """Share of the device's peak, or None when that is not known."""
    data_seconds: float = 0.0
    """What a step waited for its batch on rank 0, in seconds; the mean since the last row."""
    sequence_length: int | None = None
    """Tokens of the step's longest sample, while schedule.sequence_warmup cuts them; what texts are padded to."""


@dataclass(frozen=True)
class ValidationRow:
    """Loss on one source's validation split after `step` steps, in nats per token; perplexity is its exponential.

    Of a classifier it is per text, and there is no perplexity but what scores.Scores says.
    """

    step: int
    source: str
    loss: float
    perplexity: float | None
    accuracy: float | None = None
    f1: float | None = None
    examples: int | None = None

    @property
    def measures(self) -> dict[str, float]:
        """All that is measured, by its name."""
        names = ("loss", "perplexity", "accuracy", "f1")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def text(self) -> str:
        """`2.3456 (perplexity 10.44)`, or `0.3456 (accuracy 0.8712, F1 0.8694)`."""
        if self.perplexity is not None:
            return f"{self.loss:.4f} (perplexity {self.perplexity:.4g})"
        return f"{self.loss:.4f} (accuracy {self.accuracy:.4f}, F1 {self.f1:.4f})"


class Callback:
    """Hooks of a run, called on every rank in the order of the list; those that only matter on rank 0 return there.

    A callback must not change what is trained, and must not communicate between ranks.
    """

    def on_start(self, run: Run) -> None:
        """The model is loaded; step `run.start_step + 1` comes next."""

    def on_step_start(self, run: Run, step: int) -> None:
        """Step `step` is about to be taken. Called before every step, whatever log.interval is."""

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """A step whose number is a multiple of log.interval has been taken."""

    def on_validation(self, run: Run, rows: Sequence[ValidationRow]) -> None:
        """Every source has been validated after the same step."""

    def on_checkpoint(self, run: Run, step: int, path: Path) -> None:
        """The checkpoint of `step` is complete and visible at `path`."""

    def on_rollback(self, run: Run, step: int) -> None:
        """Training has gone back to after `step` steps; those that follow are taken again, on other samples."""

    def on_event(self, run: Run, event: Mapping[str, Any]) -> None:
        """Something else worth keeping: `event` has "event" (its name) and "step"."""

    def on_end(self, run: Run, step: int, status: str) -> None:
        """The run ends after `step` steps: "done", "signal", "time" (limit) or "failed" (training raised an error)."""
