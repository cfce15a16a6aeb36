"""Pairs that may be near-duplicates: equal bands of min-hashes, then agreement of whole signatures.

Two documents are looked at when all rows of one band agree, which happens with probability 1 − (1 − J^rows)^bands for
Jaccard similarity J. The share of min-hashes in which they agree estimates J with standard error
√(J(1 − J)/permutations). At the threshold, DOUBT of these are the doubtful zone: below it a pair is dropped (one in 700
pairs at the threshold is lost so), above it it is a near-duplicate (as seldom wrong), inside it the sets decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.compiled import kernel
from data_prep.dedup.shingles import Hashes, Positions
from data_prep.recipe import Dedup

DOUBT = 3.0
"""Half of the doubtful zone, in standard errors."""

_KNOWN = {(0.8, 128): (16, 8)}
"""What bands_and_rows computes for the defaults, without datasketch's second of imports."""


class Candidates(NamedTuple):
    """Pairs, each once, in order."""

    pairs: Positions
    """[candidates, 2]: a document and a later one."""
    agreement: NDArray[np.float64]
    """Share of equal min-hashes; [candidates]."""


def bands_and_rows(rules: Dedup) -> tuple[int, int]:
    """The recipe's bands and rows, or datasketch's optimum for its threshold and num_perm.

    Missed pairs count 19 times as much as false candidates there, since these are only compared in vain.
    """
    if rules.bands is not None and rules.rows is not None:
        return rules.bands, rules.rows
    if (rules.threshold, rules.num_perm) in _KNOWN:
        return _KNOWN[rules.threshold, rules.num_perm]
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=rules.threshold, num_perm=rules.num_perm, weights=(0.05, 0.95))
    return int(index.b), int(index.r)


def zone(threshold: float, permutations: int) -> tuple[int, int]:
    """Fewest equal min-hashes of a candidate, and of one that needs no exact comparison."""
    doubt = DOUBT * math.sqrt(threshold * (1 - threshold) / permutations)
    least = max(1, math.ceil((threshold - doubt) * permutations))
    return least, math.floor((threshold + doubt) * permutations) + 1


def find(
    keys: Hashes,
    documents: NDArray[np.uint32],
    signatures: Sequence[NDArray[np.uint32]],
    rules: Dedup,
    threads: int = 1,
) -> Candidates:
    """Candidates among documents; see `rows`."""
    return once(rows(keys, documents, signatures, rules, threads), rules)


def rows(
    keys: Hashes,
    documents: NDArray[np.uint32],
    signatures: Sequence[NDArray[np.uint32]],
    rules: Dedup,
    threads: int = 1,
) -> NDArray[np.uint32]:
    """(document, later document, equal min-hashes) for equal keys [bands, n] in a band, repeats included.

    `documents` [n] are ascending positions in the signatures. In a group of more than 64 equal keys each document is
    compared with up to 16 anchors of the group, never all with all: a template that fills a bucket costs time in
    proportion to its documents.
    """
    least, sure = zone(rules.threshold, rules.num_perm)
    keys, documents = np.ascontiguousarray(keys), np.ascontiguousarray(documents, np.uint32)
    found = kernel().candidates(keys, documents, list(signatures), rules.num_perm, least, sure, threads)
    return np.frombuffer(found, np.uint32).reshape(-1, 3)


def once(found: NDArray[np.uint32], rules: Dedup) -> Candidates:
    """Each pair of `rows` once, in order: bands find a pair again and again."""
    codes = found[:, 0].astype(np.uint64) << np.uint64(32) | found[:, 1].astype(np.uint64)
    _, first = np.unique(codes, return_index=True)
    return Candidates(found[first, :2].astype(np.int64), found[first, 2] / rules.num_perm)
