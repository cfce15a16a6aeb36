"""Intervals of 95 %: of shares, of ranking and of ratios of sums. Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Z = 1.959963984540054
RESAMPLES = 1000
CHUNK = 2**22
"""Weights of resamples that exist at once."""


class Estimate(NamedTuple):
    """A figure with its interval of 95 %; NaN where nothing was measured."""

    value: float
    low: float
    high: float
    size: int
    """Number of what it was estimated from."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: null where there is no number."""
        return {
            key: round(value, 6) if math.isfinite(value) else None
            for key, value in (("value", self.value), ("low", self.low), ("high", self.high))
        } | {"size": self.size}


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def share(successes: float, total: int) -> Estimate:
    """A share with Wilson's score interval (1927); ties may count as half a success."""
    if not total:
        return NOTHING
    p, z2 = successes / total, Z * Z
    middle = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total))
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)), total)


def auc(positive: ArrayLike, negative: ArrayLike) -> Estimate:
    """Chance that a positive is above a negative, ties half, with DeLong's interval (1988)."""
    high, low = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if not len(high) or not len(low):
        return NOTHING
    above = (_midranks(np.concatenate([high, low]))[: len(high)] - _midranks(high)) / len(low)  # [positives]
    below = 1 - (_midranks(np.concatenate([high, low]))[len(high) :] - _midranks(low)) / len(high)  # [negatives]
    value = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (above, below) if len(part) > 1)
    half = Z * math.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), len(high) + len(low))


def _midranks(values: Floats) -> Floats:
    """Ranks from 1, equals sharing their mean."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[where]
    return ranks


def bootstrap(
    units: int,
    statistic: Callable[[Floats], Floats],
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[Floats, Floats, Floats]:
    """Value, lower and upper bound (percentiles) of `statistic` when `units` things are drawn again.

    `statistic` takes how often each is drawn, [draws, units], and returns [draws] or [draws, figures].
    """
    whole = statistic(np.ones((1, units)))[0]
    draw = np.random.default_rng(seed)
    rows = max(1, CHUNK // max(1, units))
    parts = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        parts.append(statistic(draw.multinomial(units, np.full(units, 1 / units), size=count).astype(np.float64)))
    drawn = np.concatenate(parts)
    with np.errstate(all="ignore"):
        low, high = _percentiles(drawn)
    return np.asarray(whole), low, high


def _percentiles(drawn: Floats) -> tuple[Floats, Floats]:
    """2.5 % and 97.5 % over the draws, those without a number left out."""
    known = np.sort(np.where(np.isfinite(drawn), drawn, np.inf), axis=0)
    count = np.isfinite(drawn).sum(axis=0)
    out = []
    for level in (0.025, 0.975):
        place = level * np.maximum(count - 1, 0)
        below = np.floor(place).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(count - 1, 0))
        first = np.take_along_axis(known, below[None], 0)[0]
        second = np.take_along_axis(known, above[None], 0)[0]
        out.append(np.where(count > 0, first + (place - below) * (second - first), np.nan))
    return out[0], out[1]


def ratio(numerators: ArrayLike, denominators: ArrayLike, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """Sum over sum, bootstrapped over units; a mean where the denominators are 1."""
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if not bottom.sum():
        return NOTHING

    def statistic(weights: Floats) -> Floats:
        with np.errstate(all="ignore"):
            value: Floats = (weights @ top) / (weights @ bottom)
        return value

    if np.count_nonzero(bottom) < 2:  # nothing to draw again
        return Estimate(float(top.sum() / bottom.sum()), math.nan, math.nan, len(top))
    value, low, high = bootstrap(len(top), statistic, seed, resamples)
    return Estimate(float(value), float(low), float(high), len(top))


def mean(values: ArrayLike, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """Mean, bootstrapped."""
    known = np.asarray(values, np.float64)
    return ratio(known, np.ones(len(known)), seed, resamples)
