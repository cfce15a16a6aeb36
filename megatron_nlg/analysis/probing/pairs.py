"""Probing sets from a collection: BM25 score, term frequency, relevance, and similarity by an embedding model.

The passage is the first line of a text and the query the second, so that a causal model has read the passage when it
comes to the query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_nlg.analysis.probing.collection import Collection
from megatron_nlg.analysis.probing.example import Example, ProbingSet, evenly, finish, of_two, quantile_bins
from megatron_nlg.analysis.probing.rankers import Ranker
from megatron_nlg.analysis.probing.terms import places, terms
from megatron_nlg.config.errors import InputError

SCORE_BINS, SIMILARITY_BINS = 10, 5
FREQUENT = 4
"""Term frequencies from here on are one class."""
DEPTHS = (1, 10, 100, 1000)
"""One passage of a query is drawn from the best so many, for each of these."""
OVERSAMPLED = 6
"""Term frequencies are drawn so many times, so that rare ones are found."""

Embed = Callable[[Sequence[str]], Any]


def bm25_scores(found: Collection, ranker: Ranker, limit: int, seed: int) -> ProbingSet:
    """The score of query and passage, in ten bins that hold as many."""
    pairs = list(_pairs(found, ranker, limit, seed))
    labels, names = quantile_bins([score for _, _, score in pairs], SCORE_BINS)
    examples = [_example(found, q, p, int(label)) for (q, p, _), label in zip(pairs, labels, strict=True)]
    about = (
        f"{ranker.name} score of query and passage in {len(names)} bins that hold about as many; passages are drawn "
        f"from the best {', '.join(map(str, DEPTHS))} of a query. Spans: the passage, the query. Control: the query."
    )
    return finish("bm25", names, examples, limit, seed, about, "--collection")


def term_frequency(found: Collection, ranker: Ranker, limit: int, seed: int) -> ProbingSet:
    """How often a term of the query stands in the passage: 0, 1, 2, 3, or 4 and more, as evenly as there are."""
    draw = np.random.default_rng([seed, 1])
    examples = []
    for query, passage, _ in _pairs(found, ranker, OVERSAMPLED * limit, seed + 1):
        known = list(places(found.queries[query]))
        if known:
            term, begin, end = known[int(draw.integers(len(known)))]
            times = min(FREQUENT, terms(found.passages[passage]).count(term))
            examples.append(of_two(found.passages[passage], found.queries[query], times, term, (begin, end)))
    names = [*map(str, range(FREQUENT)), f"{FREQUENT} or more"]
    about = (
        f"How often a term of the query stands in the passage, from 0 to {FREQUENT} or more; classes as even as the "
        "collection allows. Spans: the passage, the term in the query. Control: the term."
    )
    return finish("tf", names, evenly(list(dict.fromkeys(examples)), limit), limit, seed, about, "--collection")


def relevance(found: Collection, ranker: Ranker, limit: int, seed: int) -> ProbingSet:
    """Whether a passage is relevant, half of the time; others are judged so, or BM25's best without a judgement."""
    if not any(grade for grades in found.judged.values() for grade in grades.values()):
        raise InputError("--collection: holds no relevant passage; relevance needs qrels.tsv")
    order = [query for query in _shuffled(found, seed + 2) if query in found.judged]
    draw = np.random.default_rng([seed, 2])
    depth = 100
    examples: list[Example] = []
    for query, ranking in zip(order, ranker.rank([found.queries[q] for q in order], depth), strict=True):
        grades = found.judged[query]
        right = [passage for passage, grade in grades.items() if grade]
        wrong = [passage for passage, grade in grades.items() if not grade]
        wrong = wrong or [int(p) for p in ranking.passages if p not in grades]
        if right and wrong:
            for label, some in ((1, right), (0, wrong)):
                examples.append(_example(found, query, some[int(draw.integers(len(some)))], label))
        if len(examples) >= limit:
            break
    about = (
        "Whether the passage is relevant to the query by the judgements; the others are judged not relevant, or "
        f"drawn from the {depth} best of {ranker.name} without a judgement. Spans: the passage, the query. Control: "
        "the query."
    )
    return finish("relevance", ("not relevant", "relevant"), examples, limit, seed, about, "--collection")


def embedded_similarity(found: Collection, ranker: Ranker, embed: Embed, limit: int, seed: int) -> ProbingSet:
    """The cosine of an embedding model between query and passage, in five bins that hold as many."""
    pairs = list(_pairs(found, ranker, limit, seed + 3))
    queries = _embedded(embed, [found.queries[query] for query, _, _ in pairs])
    passages = _embedded(embed, [found.passages[passage] for _, passage, _ in pairs])
    labels, names = quantile_bins((queries * passages).sum(axis=1), SIMILARITY_BINS)
    examples = [_example(found, q, p, int(label)) for (q, p, _), label in zip(pairs, labels, strict=True)]
    about = (
        f"Cosine between query and passage by the embedding model, in {len(names)} bins that hold about as many. "
        "Spans: the passage, the query. Control: the query."
    )
    return finish("similarity", names, examples, limit, seed, about, "--collection")


def _embedded(embed: Embed, texts: Sequence[str]) -> NDArray[np.float64]:
    """[texts, dimensions] of length 1. Raises InputError for what is no matrix of numbers."""
    try:
        vectors = np.asarray(embed(texts), np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"--embedder: gives no matrix of numbers ({error}); return one row a text") from None
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise InputError(
            f"--embedder: gives {vectors.shape} for {len(texts)} texts; return one row of finite numbers a text"
        )
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def _pairs(found: Collection, ranker: Ranker, limit: int, seed: int) -> Iterator[tuple[int, int, float]]:
    """Query, passage and score: for each query of a random order one passage from each of the best DEPTHS."""
    draw = np.random.default_rng([seed, 0])
    given = 0
    while given < limit:
        order = _shuffled(found, int(draw.integers(2**31)))
        before = given
        for query, ranking in zip(order, ranker.rank([found.queries[q] for q in order], DEPTHS[-1]), strict=True):
            chosen: set[int] = set()
            for depth in DEPTHS:
                if len(ranking.passages):
                    chosen.add(int(draw.integers(min(depth, len(ranking.passages)))))
            for place in sorted(chosen):
                yield query, int(ranking.passages[place]), float(ranking.scores[place])
                given += 1
                if given == limit:
                    return
        if given == before or len(order) * len(DEPTHS) * 4 < given:  # what is left to draw has been seen
            return


def _shuffled(found: Collection, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(len(found.queries)).tolist()
    return order


def _example(found: Collection, query: int, passage: int, label: int) -> Example:
    return of_two(found.passages[passage], found.queries[query], label, found.queries[query])
