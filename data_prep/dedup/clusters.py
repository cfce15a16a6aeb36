"""Near-duplicate pairs to clusters, clusters to survivors, and what is told about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.candidates import bands_and_rows
from data_prep.dedup.compiled import kernel
from data_prep.dedup.shingles import Positions
from data_prep.recipe import Dedup

BINS = 50
"""Of the histogram of similarity."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of each document."""

    exact: Positions
    """First document with the same content; [documents]."""
    cluster: Positions
    """First document of the cluster, over exact and near-duplicates; [documents]."""
    keep: NDArray[np.bool_]
    """Whether it survives: the first of its cluster does, and all of a cluster over max_cluster; [documents]."""
    summary: dict[str, Any]
    """For stats.json: pairs, clusters, sizes, and the similarity of candidates."""


def cluster(pairs: Positions, documents: int, rules: Dedup) -> Positions:
    """First member of each document's cluster; [documents]. Members are near-duplicates of the cluster's anchor.

    Jaccard distance is a metric, so two documents of an anchored cluster have at least 2·threshold − 1 in common.
    """
    out = np.empty(documents, np.int64)
    kernel().clusters(np.ascontiguousarray(pairs, np.int64), rules.clusters == "connected", out)
    return out


def judge(exact: Positions, near: Positions, similarity: NDArray[np.float64], rules: Dedup) -> Verdict:
    """Survivors of exact duplicates (`exact`) whose firsts are clustered by `near`; both [documents].

    A cluster that counts more than rules.max_cluster different texts is told of, and of it only exact duplicates go.
    """
    positions = np.arange(len(exact))
    whole = near[exact]
    distinct = np.bincount(near[exact == positions], minlength=len(exact))
    large = np.flatnonzero(distinct > rules.max_cluster) if rules.max_cluster else np.zeros(0, np.int64)
    keep = (whole == positions) | ((exact == positions) & np.isin(whole, large))
    sizes, count = np.unique(np.bincount(whole, minlength=len(exact)), return_counts=True)
    counts = {int(size): int(n) for size, n in zip(sizes, count, strict=True) if size > 1}
    near_enough = similarity >= rules.threshold
    curve = dict(zip(("bands", "rows"), bands_and_rows(rules), strict=True)) if rules.fuzzy else {}
    summary = {
        "threshold": rules.threshold,
        **curve,
        "candidate_pairs": len(similarity),
        "near_duplicate_pairs": int(near_enough.sum()),
        "clusters": sum(counts.values()),
        "largest_cluster": max(counts, default=min(1, len(exact))),
        "sizes": {str(size): counts[size] for size in sorted(counts)},
        "similarity": np.histogram(similarity, BINS, (0, 1))[0].tolist(),
        "over_max_cluster": [{"first": int(i), "documents": int(distinct[i])} for i in large],
    }
    return Verdict(exact, whole, keep, summary)
