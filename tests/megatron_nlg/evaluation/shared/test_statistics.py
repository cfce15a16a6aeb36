"""Intervals against cases worked out by hand, and against what simulation says of their coverage."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.evaluation.shared.statistics import NOTHING, auc, bootstrap, mean, ratio, share

VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def test_wilson_against_its_textbook_case() -> None:
    """81 of 263: Newcombe (1998), table I, method 3: 0.2553 to 0.3662."""
    value, low, high, size = share(81, 263)
    assert (value, size) == (81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert share(0, 5).low == 0 and share(5, 5).high == 1 and share(0, 0) is NOTHING


@given(VALUES, VALUES)
def test_auc_is_the_share_of_pairs_in_order(positive: list[int], negative: list[int]) -> None:
    want = np.mean([(p > n) + 0.5 * (p == n) for p, n in product(positive, negative)])
    found = auc(positive, negative)
    assert (
        found.value == pytest.approx(want) and 0 <= found.low <= found.value + 1e-12 <= found.high + 2e-12 <= 1 + 1e-9
    )


def test_delong_against_pairs_counted_by_hand() -> None:
    """V10 = (1, 1/2), V01 = (1, 1/2): variance 2 * (1/8) / 2 = 1/8."""
    found = auc([3, 1], [0, 2])
    assert found.value == 0.75
    assert found.low == pytest.approx(max(0, 0.75 - 1.959964 * math.sqrt(1 / 8)), abs=1e-6)
    assert auc([], [1]) is NOTHING


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = mean(values, seed=1)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.04)
    assert found.high == pytest.approx(values.mean() + half, abs=0.04)
    assert mean(values, seed=1) == found != mean(values, seed=2)


def test_ratio_weighs_units_by_what_they_hold() -> None:
    assert ratio([1, 9], [1, 3], seed=0).value == 2.5
    assert ratio([0, 0], [0, 0], seed=0) is NOTHING
    assert ratio([2, 0, 2], [1, 0, 1], seed=0)[:3] == (2, 2, 2)  # draws without any are left out
    alone = ratio([2, 0], [1, 0], seed=0)
    assert alone.as_dict() == {"value": 2, "low": None, "high": None, "size": 2}


def test_bootstrap_of_several_figures_at_once() -> None:
    table = np.arange(12.0).reshape(4, 3)
    value, low, high = bootstrap(4, lambda weights: weights @ table / 4, seed=0, resamples=300)
    assert value.tolist() == table.mean(0).tolist()
    assert (low < value).all() and (value < high).all()
