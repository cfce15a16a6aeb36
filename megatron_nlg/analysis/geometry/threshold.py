"""A linear support vector machine of one dimension: a threshold, found exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-9
"""Of the loss."""


@dataclass(frozen=True)
class Threshold:
    """Class 1 is said where `slope` × value + `offset` is above 0."""

    slope: float
    offset: float

    @property
    def at(self) -> float | None:
        """The value where classes part; None where one class is always said."""
        return -self.offset / self.slope if self.slope else None

    def classes(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """values [examples] -> 0 or 1."""
        return (self.slope * np.asarray(values, np.float64) + self.offset > 0).astype(np.int64)


def fit(values: NDArray[np.floating], classes: NDArray[np.int64], cost: float = 1.0) -> Threshold:
    """The minimum of w²/2 + cost × Σ max(0, 1 - y(wx + b)) over slope w and offset b, of standardized values.

    values [examples], classes 0 or 1. For a given w the sum is piecewise linear in b, with a corner at y - wx for
    every example; its slope rises by `cost` at each from -cost × (examples of class 1), so that the lowest point is at
    an order statistic. What is left is convex in w alone.
    """
    from scipy.optimize import minimize_scalar

    x = np.asarray(values, np.float64)
    mean, scale = x.mean(), x.std()
    y = np.where(classes == 1, 1.0, -1.0)
    positive = int((y > 0).sum())
    constant = Threshold(0.0, 1.0 if 2 * positive > len(y) else -1.0)
    if not scale > 0 or positive in (0, len(y)):
        return constant
    x = (x - mean) / scale

    def offset(w: float) -> float:
        corners = np.partition(y - w * x, (positive - 1, positive))
        return float(corners[positive - 1] + corners[positive]) / 2  # all between the two are as good

    def loss(w: float) -> float:
        return float(w * w / 2 + cost * np.maximum(0, 1 - y * (w * x + offset(w))).sum())

    bound = np.sqrt(2 * loss(0.0))  # of w, as its square can't cost more than w = 0 does
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-9, "maxiter": 200})
    w = float(found.x)
    if loss(0.0) - found.fun <= TOLERANCE * loss(0.0):  # the value says nothing: always the larger class
        return constant
    return Threshold(w / scale, offset(w) - w * mean / scale)
