"""The exact one-dimensional SVM against scikit-learn's, and where there is nothing to separate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from megatron_nlg.analysis.geometry.threshold import fit


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(6, 60), st.floats(-3, 3), st.sampled_from([0.1, 1.0, 10.0]))
def test_it_is_the_minimum_that_scikit_learn_looks_for(seed: int, count: int, apart: float, cost: float) -> None:
    draw = np.random.default_rng(seed)
    classes = draw.integers(2, size=count)
    classes[:2] = 0, 1
    values = draw.normal(size=count) * 4 + apart * classes + 100
    found = fit(values, classes, cost)
    x, y = (values - values.mean()) / values.std(), np.where(classes == 1, 1.0, -1.0)

    def loss(w: float, b: float) -> float:
        return float(w * w / 2 + cost * np.maximum(0, 1 - y * (w * x + b)).sum())

    # A tighter tolerance makes libsvm go on for ever now and then.
    theirs = SVC(kernel="linear", C=cost, tol=1e-5, max_iter=100_000).fit(x[:, None], classes)
    want = loss(theirs.coef_[0, 0], theirs.intercept_[0])
    w = found.slope * values.std()
    got = loss(w, found.offset + w * values.mean() / values.std())
    assert got <= want * (1 + 1e-6) + 1e-6
    assert got == pytest.approx(want, rel=1e-3, abs=1e-3)


def test_separated_classes_and_none_at_all() -> None:
    values, classes = np.array([1.0, 2, 8, 9]), np.array([1, 1, 0, 0])
    found = fit(values, classes)
    assert found.slope < 0
    assert found.at == pytest.approx(5)
    assert found.classes(values).tolist() == classes.tolist()
    for same, of in ((np.ones(4), classes), (values, np.zeros(4, int))):
        assert fit(same, of).at is None
    assert fit(values, np.zeros(4, int)).classes(values).tolist() == [0, 0, 0, 0]


def test_a_value_that_says_nothing_gives_the_larger_class() -> None:
    values, classes = np.array([1.0, 2, 3] * 10), np.array([1, 0, 1] * 10)
    found = fit(values, classes)
    assert found.at is None
    assert found.classes(values).all()
