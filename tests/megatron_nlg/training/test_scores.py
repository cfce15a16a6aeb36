from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from megatron_nlg.training.scores import scores_of


@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), min_size=1, max_size=30)))
def test_accuracy_and_f1_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    classes = max(2, 1 + max(max(pair) for pair in pairs))
    confusion = torch.zeros(classes, classes, dtype=torch.float64)
    for right, predicted in pairs:
        confusion[right, predicted] += 1
    right, predicted = zip(*pairs, strict=True)
    scores = scores_of(3.0 * len(pairs), confusion)
    options = {"labels": range(classes), "average": "macro"} if classes > 2 else {}
    assert scores.accuracy == pytest.approx(accuracy_score(right, predicted), rel=1e-12)
    assert scores.f1 == pytest.approx(f1_score(right, predicted, zero_division=0, **options), rel=1e-12)
    assert (scores.loss, scores.examples) == (3.0, len(pairs))
