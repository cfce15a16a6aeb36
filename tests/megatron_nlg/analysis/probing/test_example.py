"""Bins, marks and draws of probing sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.analysis.probing.example import Example, evenly, finish, of_two, quantile_bins
from megatron_nlg.config.errors import InputError


def examples(labels: list[int]) -> list[Example]:
    return [Example(f"text {i}", ((0, 4),), label, str(i % 7)) for i, label in enumerate(labels)]


@given(values=st.lists(st.integers(0, 50).map(float), min_size=1, max_size=200), bins=st.integers(1, 10))
def test_bins_are_ordered_and_equal_values_together(values: list[float], bins: int) -> None:
    labels, names = quantile_bins(values, bins)
    assert labels.min() >= 0 and labels.max() < len(names) <= bins
    for a, b in zip(values, labels, strict=True):
        for c, d in zip(values, labels, strict=True):
            assert (a < c) <= (b <= d) and (a == c) <= (b == d)


def test_distinct_values_fill_bins_alike() -> None:
    labels, names = quantile_bins(np.random.default_rng(0).permutation(1000), 10)
    assert len(names) == 10 and np.bincount(labels).min() >= 99


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(4, 60))
def test_classes_are_as_even_as_they_can_be(labels: list[int], limit: int) -> None:
    kept = np.bincount([e.label for e in evenly(examples(labels), limit)], minlength=4)
    every = np.bincount(labels, minlength=4)
    assert kept.sum() == min(limit, kept.sum()) and (kept <= every).all()
    for few in range(4):  # a class that has more than another one has is not the reason why that has no more
        assert kept[few] == every[few] or kept.max() - kept[few] <= 1


def test_marks_of_two_texts() -> None:
    example = of_two("a passage", "the query", 1, "x", (4, 9))
    assert [example.text[begin:end] for begin, end in example.marks] == ["a passage", "query"]


def test_a_set_is_the_same_for_a_seed_and_refused_when_it_says_nothing() -> None:
    some = examples([i % 2 * 2 for i in range(100)])
    first, again, other = (finish("t", ("a", "b", "c"), some, 60, seed, "", "FILE") for seed in (0, 0, 1))
    assert first.identity == again.identity != other.identity
    assert first.prior == pytest.approx(1, abs=0.1)
    assert finish("t", ("a", "b"), examples([0] * 75 + [1] * 25), 100, 0, "", "").prior == pytest.approx(1 / 0.8112781)
    assert first.classes == ("a", "c") and set(first.labels) == {0, 1} and len(first.examples) == 60
    with pytest.raises(InputError, match="FILE: gives 40 examples of t; a probe needs 50"):
        finish("t", ("a", "b", "c"), some[:40] + some[:20], 60, 0, "", "FILE")
    with pytest.raises(InputError, match="all examples of t are 'a'"):
        finish("t", ("a", "b"), examples([0] * 60), 60, 0, "", "FILE")
