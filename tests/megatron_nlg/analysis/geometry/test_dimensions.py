"""Dimensions by variance, and heads without some of them."""

from __future__ import annotations

import numpy as np

from megatron_nlg.analysis.geometry import dimensions


def test_dimensions_by_their_variance() -> None:
    values = np.zeros((50, 40), np.float32)
    values[:, 7] = np.linspace(-9, 9, 50)
    values[:, 3] = np.linspace(1e4 - 3, 1e4 + 3, 50)  # far from zero: single precision would not do
    variance = dimensions.variances(values)
    np.testing.assert_allclose(variance, values.astype(np.float64).var(axis=0))
    assert dimensions.by_variance(variance)[:3].tolist() == [7, 3, 0]
    assert dimensions.rogue(variance) == [7]
    other = variance.copy()
    other[7], other[20] = 0, 5
    assert dimensions.overlap(variance, other, top=2) == 0.5
    assert dimensions.overlap(variance, variance) == 1


def test_the_grid() -> None:
    assert dimensions.grid(20) == [0, 1, 2, 3, 4, 6, 8, 12, 16, 20]
    assert dimensions.grid(768)[-3:] == [384, 512, 768]
    assert dimensions.grid(1) == [0, 1]


def test_ablation_takes_away_what_it_says() -> None:
    """A head that reads the widest dimension, and hears a little of the others."""
    draw = np.random.default_rng(0)
    classes = draw.integers(2, size=200)
    values = draw.normal(size=(200, 8)).astype(np.float32) * np.arange(1, 9)
    values[:, 7] = np.where(classes == 1, 20, -20)
    weight, bias = np.zeros((2, 8)), np.array([0.1, 0.0])
    weight[1, 7], weight[1, 0] = 1, 0.2
    found = dimensions.ablation(
        values, classes, lambda kept: kept @ weight.T + bias, dimensions.variances(values), seed=0
    )
    for name, order in (("top", [7, 6, 5, 4, 3, 2, 1, 0]), ("bottom", [0, 1, 2, 3, 4, 5, 6, 7])):
        for k, got in zip(found["k"], found[name], strict=True):
            kept = values.copy()
            kept[:, order[: int(k)]] = 0
            said = (kept @ weight.T + bias).argmax(axis=1)
            assert got == (said == classes).mean()
    assert found["top"][0] == found["bottom"][0] == found["random"][0] == 1
    assert found["bottom"][-2] == 1
    assert found["top"][1] < 0.7
    assert all(
        low <= mean <= high for low, mean, high in zip(found["low"], found["random"], found["high"], strict=True)
    )
    assert values[:, 7].any()  # what came in is left as it was
