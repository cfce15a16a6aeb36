"""Near-duplicates: MinHash signatures, banding, exact verification, connected components (MT-NLG, section 3).

A document is the set of its word n-grams. Two documents are candidates when all rows of one band of their min-hashes
agree, which happens with probability 1 − (1 − J^rows)^bands for Jaccard similarity J. Every candidate pair is then
verified on the n-gram sets themselves, so banding costs recall at most, never a wrong merge.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.recipe import Dedup

Shingles = NDArray[np.uint64]
"""Sorted distinct 64-bit hashes of a document's n-grams; [n-grams]."""

_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BATCH = 16384  # n-grams hashed at once: bounds memory at _BATCH × num_perm × 4 bytes for any document


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def shingles(text: str, words: int) -> Shingles:
    """Hashes of the word n-grams of a text, lower-cased; a text of fewer words is one n-gram, one of none has none."""
    hashes = np.fromiter(map(_word_hash, _WORD.findall(text.lower())), np.uint64)
    if not len(hashes):
        return hashes
    size = min(words, len(hashes))
    total = np.zeros(len(hashes) - size + 1, np.uint64)
    for i in range(size):
        total = _mix(total + hashes[i : len(hashes) - size + 1 + i])
    return np.unique(total)


def _mix(values: Shingles) -> Shingles:
    """A bijection of 64 bits that depends on all of them, so that the order of words counts."""
    values = values * _MULTIPLIER
    return values ^ (values >> np.uint64(29))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Size of the intersection over size of the union; 0 for an empty set."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common) if common else 0.0


def signer(rules: Dedup, seed: int) -> Callable[[Shingles], NDArray[np.uint32]]:
    """A function from n-grams to [num_perm] min-hashes: datasketch's, on the upper half of the 64-bit hashes."""
    from datasketch import MinHash

    blank = MinHash(num_perm=rules.num_perm, seed=seed, hashfunc=int)

    def sign(grams: Shingles) -> NDArray[np.uint32]:
        minhash = blank.copy()
        upper = (grams >> np.uint64(32)).tolist()
        for start in range(0, len(upper), _BATCH):
            minhash.update_batch(upper[start : start + _BATCH])
        values: NDArray[np.uint32] = minhash.hashvalues
        return values

    return sign


def bands_and_rows(rules: Dedup) -> tuple[int, int]:
    """The recipe's bands and rows, or datasketch's optimum for its threshold and num_perm."""
    if rules.bands is not None and rules.rows is not None:
        return rules.bands, rules.rows
    from datasketch import MinHashLSH

    index: Any = MinHashLSH(threshold=rules.threshold, num_perm=rules.num_perm)
    return int(index.b), int(index.r)


def band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> Shingles:
    """One 64-bit key a band; [documents, num_perm] -> [documents, bands]. Equal rows of a band have equal keys."""
    grid = signatures[:, : bands * rows].reshape(-1, bands, rows).astype(np.uint64)
    keys = np.zeros(grid.shape[:2], np.uint64)
    for row in range(rows):
        keys = _mix(keys + grid[:, :, row])
    return keys


def buckets(keys: Shingles, documents: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Groups of two or more `documents` that share a key of some band; `keys` is [documents, bands]."""
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, [len(ordered)]])
        for i in np.flatnonzero(np.diff(starts) > 1):
            yield documents[order[starts[i] : starts[i + 1]]]


class Components:
    """Connected components over positions, each named by its smallest member (union-find with path halving)."""

    def __init__(self, count: int):
        self._parent = list(range(count))

    def find(self, i: int) -> int:
        """The smallest member of the component of `i`."""
        parent = self._parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        """Make the components of `a` and `b` one."""
        a, b = sorted((self.find(a), self.find(b)))
        self._parent[b] = a


def connect(
    groups: Iterator[NDArray[np.int64]], grams: Callable[[int], Shingles], threshold: float, components: Components
) -> int:
    """Join every two documents of a group whose n-gram sets are similar enough; returns how many pairs were compared.

    Pairs that are connected already are skipped: the components are the same as if all were compared.
    """
    compared: set[tuple[int, int]] = set()
    for group in groups:
        members = group.tolist()
        for i, a in enumerate(members):
            for b in members[i + 1 :]:
                if (a, b) in compared or components.find(a) == components.find(b):
                    continue
                compared.add((a, b))
                if jaccard(grams(a), grams(b)) >= threshold:
                    components.join(a, b)
    return len(compared)
