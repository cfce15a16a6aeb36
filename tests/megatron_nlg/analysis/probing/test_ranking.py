"""Measures against ranx on runs and judgements that hypothesis makes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.analysis.probing.ranking import evaluate, measures

PASSAGE = st.integers(0, 30)
GRADES = st.dictionaries(PASSAGE, st.integers(0, 3), min_size=1, max_size=8)
RESULTS = st.lists(PASSAGE, min_size=1, max_size=25, unique=True).flatmap(
    lambda found: st.permutations(range(len(found))).map(
        lambda scores: dict(zip(found, map(float, scores), strict=True))
    )
)
"""Without ties: ranx's order of those, which is that of the run, needs its compiled sort."""
CUTS = (1, 3, 10, 40)


@pytest.fixture(scope="module")
def ranx() -> Iterator[ModuleType]:
    """Not compiled: that would take half a minute."""
    import numba

    compiled, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, True
    yield importlib.import_module("ranx")
    numba.config.DISABLE_JIT = compiled


@given(queries=st.lists(st.tuples(GRADES, RESULTS), min_size=1, max_size=6))
@settings(max_examples=60)
def test_equal_to_ranx(ranx: ModuleType, queries: list[tuple[dict[int, int], dict[int, float]]]) -> None:
    qrels = ranx.Qrels({f"q{i}": {str(p): g for p, g in grades.items()} for i, (grades, _) in enumerate(queries)})
    run = ranx.Run({f"q{i}": {str(p): s for p, s in results.items()} for i, (_, results) in enumerate(queries)})
    names = list(measures(CUTS))
    expected = ranx.evaluate(qrels, run, names)
    found = evaluate(
        {i: (list(results), list(results.values())) for i, (_, results) in enumerate(queries)},
        {i: grades for i, (grades, _) in enumerate(queries)},
        CUTS,
    )
    for name in names:
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name


def test_ties_keep_their_order() -> None:
    judged = {0: {2: 1, 4: 1}}
    found = evaluate({0: ([1, 2, 3, 4], [0.5, 0.5, 0.5, 0.7])}, judged)
    assert found["map"] == (1 + 2 / 3) / 2  # 4, then 1, 2, 3


def test_a_ranking_by_hand() -> None:
    found = evaluate({0: ([7, 8, 9], [3.0, 2.0, 1.0])}, {0: {8: 1, 9: 2, 5: 1}, 1: {3: 1}}, (2,))
    assert found["map"] == pytest.approx((1 / 2 + 2 / 3) / 3 / 2)
    assert found["mrr"] == pytest.approx(1 / 4)
    assert found["precision@2"] == pytest.approx(1 / 4)
    assert found["ndcg@2"] == pytest.approx((1 / np.log2(3)) / (2 + 1 / np.log2(3)) / 2)
