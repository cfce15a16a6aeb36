"""What counts as equal: limits by precision and kind of tensor, and the verdict on a layout. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WEIGHT_KINDS = ("embeddings", "matrices", "biases", "norms")
COLUMNS = ("loss", "grad_norm", *WEIGHT_KINDS)
_FP32 = {"loss": 1e-5, "grad_norm": 1e-4, "embeddings": 1e-2, "matrices": 1e-2, "biases": 1e-2, "norms": 1e-2}
_HALF = {"loss": 5e-3, "grad_norm": 5e-2, "embeddings": 0.5, "matrices": 0.5, "biases": 0.5, "norms": 0.5}
LIMITS = {"fp32": _FP32, "bf16": _HALF, "fp16": _HALF}
"""Largest relative difference of a loss, of a gradient norm, and of weights by kind.

fp32: sums in another order differ by about 1e-7, and a few steps of Adam leave losses within 1e-6; a weight's limit is
a hundredth of the way it has come since the start, because where a gradient is rounding noise Adam makes a whole step
of it. 16 bits: a single rank is about as far from fp32, so weights are only asked to have gone the same way.
"""


@dataclass(frozen=True)
class Verdict:
    """How far a layout is from the reference, and whether that is within the limits."""

    differences: dict[str, float]
    """Column -> largest relative difference."""
    beyond: tuple[str, ...]
    """Columns past their limit."""

    @property
    def equal(self) -> bool:
        """Whether every column is within its limit."""
        return not self.beyond


def compare(curve: dict[str, Any], reference: dict[str, Any], precision: str) -> Verdict:
    """Hold a layout's curve (measure.Curve as a tree) against the reference's."""
    differences = {
        "loss": relative(curve["losses"], reference["losses"]),
        "grad_norm": relative(curve["grad_norms"], reference["grad_norms"]),
        **curve["weights"],
    }
    # Written so that NaN is beyond.
    beyond = tuple(c for c, limit in LIMITS[precision].items() if c in differences and not differences[c] <= limit)
    return Verdict(differences, beyond)


def relative(got: Sequence[float], want: Sequence[float]) -> float:
    """Largest relative difference of two curves, step by step; NaN when either has one, infinite for other lengths."""
    if len(got) != len(want):
        return float("inf")
    steps = [abs(g - w) / abs(w) if w else abs(g) for g, w in zip(got, want, strict=True)]
    return float("nan") if any(map(math.isnan, steps)) else max(steps, default=0.0)
