"""Exact duplicates: equal text but for case and white space."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def content_hash(text: str) -> bytes:
    """16 bytes; equal for texts that differ in case, white space and Unicode composition only."""
    normal = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return hashlib.blake2b(normal.encode(), digest_size=16).digest()


def first_of_equals(hashes: Hashes) -> NDArray[np.int64]:
    """For each document the position of the first one with its hash; `hashes` is [documents, 2], result [documents]."""
    if not len(hashes):
        return np.zeros(0, np.int64)
    # return_index names the first occurrence
    _, first, inverse = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64)
