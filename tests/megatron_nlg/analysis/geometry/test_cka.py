"""CKA against its definitions, computed the long way, and what must leave it alone."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from megatron_nlg.analysis.geometry import cka
from megatron_nlg.analysis.geometry.cka import full_cka, hsic1, minibatch_cka

Array = NDArray[np.float64]


def some(seed: int, examples: int, *sizes: int) -> list[Array]:
    """Layers that have something in common, off centre, of different scales."""
    draw = np.random.default_rng(seed)
    shared = draw.normal(size=(examples, 3))
    return [
        (shared @ draw.normal(size=(3, size)) + draw.normal(size=(examples, size))) * 10.0 ** draw.integers(-2, 3) + 5
        for size in sizes
    ]


def by_kernels(x: Array, y: Array) -> float:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with HSIC = tr(KHLH) (Kornblith et al. 2019, eq. 2 and 3)."""
    n = len(x)
    centre = np.eye(n) - np.full((n, n), 1 / n)
    k, m = x.astype(np.float64) @ x.T.astype(np.float64), y.astype(np.float64) @ y.T.astype(np.float64)

    def hsic(a: Array, b: Array) -> float:
        return float(np.trace(a @ centre @ b @ centre))

    return hsic(k, m) / float(np.sqrt(hsic(k, k) * hsic(m, m)))


@pytest.mark.parametrize(("examples", "rows"), [(40, 4096), (40, 7), (9, 4096)])
def test_full_cka_is_that_of_kernels(examples: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both forms, in parts, of what is kept in single precision."""
    monkeypatch.setattr(cka, "ROWS", rows)
    layers = [layer.astype(np.float32) for layer in some(0, examples, 12, 12, 30)]
    want = [[by_kernels(x, y) for y in layers] for x in layers]
    np.testing.assert_allclose(full_cka(layers), want, rtol=0, atol=1e-6)


def test_hsic1_is_the_mean_over_all_quadruples() -> None:
    """Its definition as a U-statistic (Song et al. 2012, eq. 2.2 with the kernel of Theorem 3)."""
    layers = some(1, 6, 4, 5)
    found = hsic1(layers)
    k, m = (layer @ layer.T for layer in layers)
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)]
    assert found[0, 1] == pytest.approx(np.mean(terms), rel=1e-9)
    assert found[1, 0] == found[0, 1]
    with pytest.raises(ValueError, match="four examples or more, not 3"):
        hsic1([layer[:3] for layer in layers])


def test_minibatches_are_means_of_hsic1_over_all_examples() -> None:
    layers = some(2, 53, 8, 9)
    draw = np.random.default_rng(7).permutation(53)
    total = sum(hsic1([layer[np.sort(part)] for layer in layers]) for part in np.array_split(draw, 4))
    want = total[0, 1] / np.sqrt(total[0, 0] * total[1, 1])
    assert minibatch_cka(layers, 16, 7)[0, 1] == pytest.approx(want, abs=1e-9)
    whole = hsic1(layers)
    assert minibatch_cka(layers, 53, 0)[0, 1] == pytest.approx(whole[0, 1] / np.sqrt(whole[0, 0] * whole[1, 1]))
    assert np.isfinite(minibatch_cka([layer[:9] for layer in layers], 8, 0)[0, 0])  # 9 examples are no two batches of 8


def test_unrelated_layers_are_near_zero_without_bias_only() -> None:
    draw = np.random.default_rng(3)
    layers = [draw.normal(size=(128, 256)) for _ in range(2)]
    assert abs(minibatch_cka(layers, 64, 0)[0, 1]) < 0.05
    assert full_cka(layers)[0, 1] > 0.5


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(2, 12), st.integers(2, 12), st.floats(1e-3, 1e3))
def test_what_cka_does_not_see(seed: int, examples: int, one: int, other: int, scale: float) -> None:
    """1 with itself; the same under rotations, reflections, isotropic scaling and shifts; symmetric; within 0 and 1."""
    x, y = some(seed, examples, one, other)
    turned = np.linalg.qr(np.random.default_rng(seed).normal(size=(one, one)))[0]
    moved = scale * x @ turned - 3
    for estimate in (full_cka, lambda layers: minibatch_cka(layers, 8, seed)):
        found = estimate([x, y, moved])
        np.testing.assert_allclose(found, found.T, equal_nan=True)
        if np.isfinite(found).all():
            np.testing.assert_allclose(np.diag(found), 1, atol=1e-9)
            np.testing.assert_allclose(found[0, 2], 1, atol=1e-6)
            np.testing.assert_allclose(found[1, 2], found[1, 0], atol=1e-6)
    exact = full_cka([x, y])
    assert (exact >= -1e-12).all()
    assert (exact <= 1 + 1e-9).all()


def test_a_layer_that_does_not_vary_has_none() -> None:
    x = some(4, 12, 5)[0]
    for found in (full_cka([x, np.ones((12, 5))]), minibatch_cka([x, np.ones((12, 5))], 6, 0)):
        assert np.isnan(found[0, 1])
        assert np.isnan(found[1, 1])
        assert found[0, 0] == pytest.approx(1)
