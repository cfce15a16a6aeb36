"""Dimensions of a block by their variance: those that dominate it ("rogue" ones), and what a head does without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Head = Callable[[NDArray[np.floating]], Floats]
"""[examples, hidden size] -> logits [examples, classes]"""
ROGUE = 5.0
"""Times the mean variance of its block: a dimension with more is called rogue."""
TOP = 10
"""Dimensions with most variance that models are compared by."""
DRAWS = 10
"""Of random dimensions."""


def variances(values: NDArray[np.floating]) -> Floats:
    """Of each dimension over examples: [examples, hidden size] -> [hidden size]."""
    return np.asarray(np.var(values, axis=0, dtype=np.float64))


def by_variance(variance: Floats) -> NDArray[np.int64]:
    """Dimensions, the highest variance first; of equal ones the first."""
    return np.asarray(np.argsort(-variance, kind="stable"))


def rogue(variance: Floats) -> list[int]:
    """Dimensions with more than ROGUE times the mean variance, the highest first."""
    return [int(d) for d in by_variance(variance) if variance[d] > ROGUE * variance.mean()]


def overlap(a: Floats, b: Floats, top: int = TOP) -> float:
    """Share of the `top` dimensions with most variance that two models' blocks have in common."""
    return len({*by_variance(a)[:top].tolist()} & {*by_variance(b)[:top].tolist()}) / min(top, len(a))


def grid(hidden_size: int) -> list[int]:
    """Numbers of dimensions to take away, 0, 1, 2, 3, 4, 6, 8, 12, … and all."""
    steps = {0, hidden_size}
    power = 1
    while power < hidden_size:
        steps |= {power, min(hidden_size, power + power // 2)}
        power *= 2
    return sorted(steps)


def accuracy(values: NDArray[np.floating], classes: NDArray[np.int64], head: Head) -> float:
    """Of a head on values [examples, hidden size]."""
    return float((np.argmax(head(values), axis=1) == classes).mean())


def ablation(
    values: NDArray[np.floating],
    classes: NDArray[np.int64],
    head: Head,
    variance: Floats,
    seed: int,
) -> dict[str, list[float]]:
    """Accuracy of a head with k dimensions of its input set to zero, for each k of the grid.

    `top` and `bottom`: those with most and least variance; `random`: the mean of DRAWS draws, `low` and `high` its
    extremes.
    """
    order = by_variance(variance)
    steps = grid(values.shape[1])

    def curve(dimensions: NDArray[np.int64]) -> list[float]:
        return [accuracy(kept, classes, head) for kept in _without(values, dimensions, steps)]

    random = np.random.default_rng(seed)
    drawn = np.array([curve(random.permutation(order)) for _ in range(DRAWS)])
    return {
        "k": [*map(float, steps)],
        "top": curve(order),
        "bottom": curve(order[::-1]),
        "random": drawn.mean(axis=0).tolist(),
        "low": drawn.min(axis=0).tolist(),
        "high": drawn.max(axis=0).tolist(),
    }


def _without(values: NDArray[np.floating], dimensions: NDArray[np.int64], steps: list[int]) -> Iterator[Floats]:
    """The values with the first k of `dimensions` zero, one copy for all k."""
    kept = np.array(values, np.float64)
    before = 0
    for k in steps:
        kept[:, dimensions[before:k]] = 0
        before = k
        yield kept
