"""The limits of verdicts, apart from what judges: the command line asks for them without any library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """The limits, in nats but for the first two; those of spikes are the loss guard's defaults."""

    spike_window: int = 20
    """Losses that a new one is compared with."""
    spike_factor: float = 10.0
    """Robust standard deviations above their median."""
    spike_margin: float = 0.2
    """And as much above it; or above where the curve began and above the uniform level."""
    rise: float = 0.5
    """A run that ends as much above its own lowest level has diverged."""
    worse: float = 0.25
    """A rate is as good as the best one while it ends no more than this above it."""
