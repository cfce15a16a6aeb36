"""Measures of rankings: MAP, MRR, nDCG@k and P@k, as ranx defines them.

A ranking is sorted by score; equal scores keep the order in which they are given (ranx does so with up to 15 results of
a query, and leaves the order of more to its sort). Passages without a judgement count as not relevant, and a query
without a relevant passage as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Grades = Mapping[int, int]
"""Passage to grade: relevant from 1."""
Floats = NDArray[np.float64]

CUTS = (10, 100)
"""k of the measures that a report shows."""


def gains(passages: Sequence[int], scores: Sequence[float], judged: Grades) -> Floats:
    """Grades of a ranking's passages, the best-scored first, [results]."""
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    return np.array([max(0, judged.get(int(passages[i]), 0)) for i in order], float)


def average_precision(gain: Floats, judged: Grades) -> float:
    """Mean over relevant passages of the precision where each is found, 0 where it is not."""
    hits = gain > 0
    precision = np.cumsum(hits) / np.arange(1, len(gain) + 1)
    return float(precision[hits].sum() / max(1, _relevant(judged)))


def reciprocal_rank(gain: Floats, judged: Grades) -> float:
    """1 / rank of the first relevant passage."""
    found = np.flatnonzero(gain > 0)
    return 1 / float(found[0] + 1) if len(found) else 0.0


def ndcg(gain: Floats, judged: Grades, k: int) -> float:
    """Discounted cumulative gain over the best possible one, grades as gains (Järvelin and Kekäläinen 2002)."""
    best = np.sort(np.array([grade for grade in judged.values() if grade > 0], float))[::-1]
    ideal = _dcg(best[:k])
    return _dcg(gain[:k]) / ideal if ideal else 0.0


def precision(gain: Floats, judged: Grades, k: int) -> float:
    """Share of relevant passages of the first k; results that are missing count as not relevant."""
    return float((gain[:k] > 0).sum() / k)


def _dcg(gain: Floats) -> float:
    return float((gain / np.log2(np.arange(2, len(gain) + 2))).sum())


def _relevant(judged: Grades) -> int:
    return sum(grade > 0 for grade in judged.values())


def measures(cuts: Sequence[int] = CUTS) -> dict[str, Callable[[Floats, Grades], float]]:
    """All by the names that ranx gives them."""
    found: dict[str, Callable[[Floats, Grades], float]] = {"map": average_precision, "mrr": reciprocal_rank}
    for k in cuts:
        found[f"ndcg@{k}"] = lambda gain, judged, k=k: ndcg(gain, judged, k)  # type: ignore[misc]
    for k in cuts:
        found[f"precision@{k}"] = lambda gain, judged, k=k: precision(gain, judged, k)  # type: ignore[misc]
    return found


def evaluate(
    results: Mapping[int, tuple[Sequence[int], Sequence[float]]],
    judged: Mapping[int, Grades],
    cuts: Sequence[int] = CUTS,
) -> dict[str, float]:
    """Means over the judged queries; `results` are passages and scores of each, nothing where it has none."""
    nothing: tuple[Sequence[int], Sequence[float]] = ((), ())
    gained = {query: gains(*results.get(query, nothing), grades) for query, grades in judged.items()}
    return {
        name: float(np.mean([measure(gained[query], grades) for query, grades in judged.items()]))
        for name, measure in measures(cuts).items()
    }
