"""TF-IDF and BM25 over sparse counts: passages by score, the best first.

A query's score is the sum of its terms' weights in the passage; a term that stands twice in it counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from megatron_nlg.analysis.probing.terms import Counts

K1, B = 1.5, 0.75
"""BM25's saturation and length normalization, by default those of bm25s."""

AT_ONCE = 64
"""Queries whose scores of all passages exist at once."""


class Ranking(NamedTuple):
    """Passages of a query, the best first; of equal scores the earlier passage."""

    passages: NDArray[np.int64]
    scores: NDArray[np.float64]


class Ranker:
    """Weights of terms in passages, [terms, passages]."""

    def __init__(self, name: str, counts: Counts, weights: sparse.csr_array):
        self.name, self.counts, self.weights = name, counts, sparse.csr_array(weights.T)

    def scores(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """[queries, passages]"""
        dense: NDArray[np.float64] = (self.counts.queries(queries) @ self.weights).toarray()
        return dense

    def rank(self, queries: Sequence[str], depth: int) -> Iterator[Ranking]:
        """Of each query the best passages, at most `depth`, those without any of its terms left out."""
        for first in range(0, len(queries), AT_ONCE):
            for row in self.scores(queries[first : first + AT_ONCE]):
                yield _best(row, depth)


def _best(row: NDArray[np.float64], depth: int) -> Ranking:
    found = np.flatnonzero(row > 0)
    if len(found) > depth:
        least = np.partition(row[found], -depth)[-depth]
        found = found[row[found] >= least]
    order = found[np.argsort(-row[found], kind="stable")][:depth]
    return Ranking(order, row[order])


def tf_idf(counts: Counts) -> Ranker:
    """Weights (1 + log tf) × log(passages / df), natural logarithms."""
    idf = np.log(counts.matrix.shape[0] / np.maximum(counts.document_frequency, 1))
    weights = counts.matrix.copy()
    weights.data = (1 + np.log(weights.data)) * idf[weights.indices]
    return Ranker("TF-IDF", counts, weights)


def bm25(counts: Counts, method: str = "lucene", k1: float = K1, b: float = B) -> Ranker:
    """BM25 as Lucene computes it, or Robertson's, with idf not below 0 (Kamphuis et al. 2020).

    idf is log(1 + (N - df + 0.5) / (df + 0.5)) of Lucene, max(0, log((N - df + 0.5) / (df + 0.5))) of Robertson; the
    weight is idf × tf / (tf + k1 × (1 - b + b × length / mean length)).
    """
    passages, df = counts.matrix.shape[0], counts.document_frequency
    odds = (passages - df + 0.5) / (df + 0.5)
    idf = np.log1p(odds) if method == "lucene" else np.log(np.maximum(odds, 1))
    shrink = k1 * (1 - b + b * counts.lengths / max(counts.lengths.mean(), 1e-12))
    weights = counts.matrix.copy()
    rows = np.repeat(np.arange(passages), np.diff(weights.indptr))
    weights.data = idf[weights.indices] * weights.data / (weights.data + shrink[rows])
    return Ranker(f"BM25 ({method})", counts, weights)


def rankers(counts: Counts, k1: float = K1, b: float = B) -> list[Ranker]:
    """All that a report compares."""
    return [tf_idf(counts), bm25(counts, "robertson", k1, b), bm25(counts, "lucene", k1, b)]
