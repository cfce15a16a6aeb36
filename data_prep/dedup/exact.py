"""Exact duplicates: equal text but for case and white space."""

from __future__ import annotations

import numpy as np

from data_prep.dedup.compiled import kernel
from data_prep.dedup.shingles import Hashes, Positions


def first_of_equals(hashes: Hashes) -> Positions:
    """For each document the position of the first one with its hash; `hashes` is [documents, 2], result [documents]."""
    out = np.empty(len(hashes), np.int64)
    kernel().first_of_equals(np.ascontiguousarray(hashes), out)
    return out
