"""Decides whether a step is applied, and when training goes back: pure functions of losses that all ranks know.

A loss is a spike when it lies above the median of the latest applied steps' losses by spike_factor standard deviations
(1.4826 × the median absolute deviation, which a few outliers do not move) and by spike_margin. Such a step is skipped
before its update; so is one whose loss or gradient is not finite. Too many skips within a window, and training goes
back to before the first of them and leaves their samples out, as PaLM did by hand (Chowdhery et al. 2022, section 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from megatron_nlg.config.schema import Guard

Range = tuple[int, int]
"""Samples [first, end)."""
DEVIATION = 1.4826
"""Standard deviation of a normal distribution, over its median absolute deviation."""


@dataclass(frozen=True)
class GuardState:
    """What decisions depend on; it is kept in every checkpoint, so that a resumed run makes the same ones."""

    losses: tuple[float, ...] = ()
    """Of the latest applied steps."""
    skips: tuple[tuple[int, int, int], ...] = ()
    """Step and samples [first, end) of the latest skipped steps."""
    left_out: tuple[Range, ...] = ()
    """Samples that are never read again."""
    rollbacks: int = 0
    """How often training has gone back."""

    def to_json(self) -> dict[str, Any]:
        """As plain lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> GuardState:
        """The state that `to_json` gave; a fresh one for {}."""
        return cls(
            losses=tuple(map(float, tree.get("losses", ()))),
            skips=tuple((int(s), int(a), int(b)) for s, a, b in tree.get("skips", ())),
            left_out=tuple((int(a), int(b)) for a, b in tree.get("left_out", ())),
            rollbacks=int(tree.get("rollbacks", 0)),
        )


class LossGuard:
    """The rules over a state."""

    def __init__(self, settings: Guard, state: GuardState):
        self.settings, self.state = settings, state

    @property
    def judges_losses(self) -> bool:
        """Whether a step must wait for its loss before its update."""
        return self.settings.spike_window > 0

    def limit(self) -> float:
        """The highest loss that is no spike; infinite until the window is full."""
        losses = self.state.losses
        if not self.judges_losses or len(losses) < self.settings.spike_window:
            return math.inf
        middle = median(losses)
        deviation = DEVIATION * median([abs(loss - middle) for loss in losses])
        return middle + max(self.settings.spike_factor * deviation, self.settings.spike_margin)

    def objection(self, loss: float) -> str | None:
        """Why the step with this loss must not be applied."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        limit = self.limit()
        return f"the loss {loss:.4f} is a spike: above {limit:.4f}" if loss > limit else None

    def applied(self, loss: float) -> None:
        """A step has been applied."""
        if self.judges_losses:
            kept = (*self.state.losses, loss)[-self.settings.spike_window :]
            self.state = replace(self.state, losses=kept)

    def skipped(self, step: int, samples: Range) -> None:
        """A step has been skipped."""
        recent = [skip for skip in self.state.skips if skip[0] > step - self.settings.suspect_window]
        self.state = replace(self.state, skips=(*recent, (step, *samples)))

    def is_suspect(self, step: int) -> bool:
        """Whether a checkpoint of this step may be of a model that is about to go wrong."""
        return any(skip[0] > step - self.settings.suspect_window for skip in self.state.skips)

    def must_roll_back(self, step: int) -> bool:
        """Whether there have been too many skips."""
        recent = [skip for skip in self.state.skips if skip[0] > step - self.settings.suspect_window]
        return len(recent) >= self.settings.max_skips

    def rolled_back(self, loaded: GuardState) -> None:
        """Training goes on from an earlier state, without the samples from the first skipped step to the last."""
        skips = self.state.skips
        new = (min(first for _, first, _ in skips), max(end for _, _, end in skips))
        left_out = _merged((*loaded.left_out, *self.state.left_out, new))
        self.state = replace(loaded, skips=(), left_out=left_out, rollbacks=self.state.rollbacks + 1)


def _merged(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Ranges in order, those that touch made one."""
    merged: list[Range] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return tuple(merged)
