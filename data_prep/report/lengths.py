"""Histograms of lengths in half octaves: bin k holds lengths from 2^(k/2) on; the first one holds 0 too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.report.text import count_text

BINS = 64


def count_lengths(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """How many lengths lie in each bin; [documents] -> [BINS]."""
    bins = np.floor(2 * np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)


def add_up(parts: Iterable[Sequence[int]]) -> list[int]:
    """Counts of several parts; [BINS]."""
    total = np.zeros(BINS, np.int64)
    for part in parts:
        total += np.array(part, np.int64)
    return [int(count) for count in total]


def trimmed(series: Mapping[str, Sequence[int]]) -> tuple[int, dict[str, list[int]]]:
    """First bin that is not empty in all series, and the counts from there to the last one."""
    used = [k for k in range(BINS) if any(counts[k] for counts in series.values())] or [0]
    return used[0], {name: list(counts[used[0] : used[-1] + 1]) for name, counts in series.items()}


def edge_labels(first: int, count: int) -> list[str]:
    """The shortest length of each bin."""
    return [count_text(round(2 ** (k / 2))) for k in range(first, first + count)]
