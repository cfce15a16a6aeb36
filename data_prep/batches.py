"""Documents in runs of about so many bytes, so that memory does not grow with a shard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def runs(sizes: NDArray[np.int64], run_bytes: int) -> Iterator[tuple[int, int]]:
    """(first, end) of runs of documents, in order; `sizes` is [documents], in bytes. A document is never cut."""
    if len(sizes):
        number = np.concatenate([[0], np.cumsum(sizes)[:-1]]) // run_bytes
        yield from pairwise(np.flatnonzero(np.diff(number, prepend=-1, append=-1)).tolist())
