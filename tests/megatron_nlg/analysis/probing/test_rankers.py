"""Scores against bm25s in float64, TF-IDF against its formula, and the order of rankings."""

from __future__ import annotations

import math
from collections import Counter

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.analysis.probing.rankers import bm25, rankers, tf_idf
from megatron_nlg.analysis.probing.terms import count, places, terms

WORD = st.sampled_from(["the", "cat", "dog", "sat", "on", "a", "mat", "bird", "tree", "sings"])
TEXT = st.lists(WORD, min_size=1, max_size=12).map(" ".join)


@given(passages=st.lists(TEXT, min_size=2, max_size=12), query=TEXT, method=st.sampled_from(["lucene", "robertson"]))
@settings(max_examples=40)
def test_bm25_is_that_of_bm25s(passages: list[str], query: str, method: str) -> None:
    oracle = bm25s.BM25(method=method, k1=0.9, b=0.4, dtype="float64")
    oracle.index([terms(text) for text in passages], show_progress=False)
    known = set(terms(" ".join(passages)))
    asked = [term for term in terms(query) if term in known]
    expected = oracle.get_scores(asked) if asked else np.zeros(len(passages))
    found = bm25(count(passages), method, k1=0.9, b=0.4).scores([query])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@given(passages=st.lists(TEXT, min_size=1, max_size=8), query=TEXT)
@settings(max_examples=40)
def test_tf_idf_is_its_formula(passages: list[str], query: str) -> None:
    bags = [Counter(terms(text)) for text in passages]
    frequency = Counter(term for bag in bags for term in bag)
    expected = [
        sum((1 + math.log(bag[t])) * math.log(len(bags) / frequency[t]) for t in terms(query) if bag[t]) for bag in bags
    ]
    np.testing.assert_allclose(tf_idf(count(passages)).scores([query])[0], expected, rtol=1e-12, atol=1e-12)


@given(passages=st.lists(TEXT, min_size=1, max_size=12), query=TEXT, depth=st.integers(1, 6))
def test_the_best_come_first_and_ties_in_order(passages: list[str], query: str, depth: int) -> None:
    ranker = bm25(count(passages))
    scores = ranker.scores([query])[0]
    expected = [i for i in sorted(range(len(passages)), key=lambda i: (-scores[i], i)) if scores[i] > 0][:depth]
    (ranking,) = ranker.rank([query], depth)
    assert ranking.passages.tolist() == expected
    np.testing.assert_array_equal(ranking.scores, scores[expected])


def test_all_queries_are_ranked_over_batches() -> None:
    passages = [f"word{i} common" for i in range(150)]
    for ranker in rankers(count(passages)):
        found = list(ranker.rank([f"word{i} unknown" for i in range(150)], 3))
        assert [ranking.passages[0] for ranking in found] == list(range(150)), ranker.name
        assert next(ranker.rank(["nothing"], 3)).passages.size == 0


@pytest.mark.parametrize("text", ["", "Ünïcode, über-all: x_1!", "A  b\tc"])
def test_places_are_those_of_the_terms(text: str) -> None:
    assert [term for term, _, _ in places(text)] == terms(text)
    assert all(text[begin:end].lower() == term for term, begin, end in places(text))
