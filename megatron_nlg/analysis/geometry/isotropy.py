"""Whether representations fill their space: average cosine, and IsoScore (Rudman et al. 2022)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def average_cosine(values: NDArray[np.floating]) -> float:
    """Mean cosine of all pairs of different examples; values [examples, hidden size]. 0 is isotropic, 1 one direction.

    Examples that are zero count as at right angles to all.
    """
    rows = np.asarray(values, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    n, there = len(rows), float((norms > 0).sum())
    return float((np.square(units.sum(axis=0)).sum() - there) / (n * (n - 1)))


def iso_score(values: NDArray[np.floating]) -> float:
    """IsoScore of values [examples, hidden size]: 1 where variance is the same in all directions, 0 in one only.

    Algorithm 1: principal components' variances, their distance from equal ones, and that as a share of dimensions
    used. NaN where the examples are all the same.
    """
    rows = np.asarray(values, np.float64)
    centred = rows - rows.mean(axis=0)
    n, d = rows.shape
    variances = np.zeros(d)
    found = np.linalg.svd(centred, compute_uv=False) ** 2 / (n - 1)
    variances[: len(found)] = found
    length = np.linalg.norm(variances)
    if not length > 0:
        return math.nan
    even = math.sqrt(d) * variances / length
    defect = np.linalg.norm(even - 1) / math.sqrt(2 * (d - math.sqrt(d)))
    used = (d - defect**2 * (d - math.sqrt(d))) ** 2 / d**2
    return float((d * used - 1) / (d - 1))
