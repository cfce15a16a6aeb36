"""Linear CKA between blocks (Kornblith et al. 2019), of all examples at once or without bias from minibatches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROWS = 4096
"""Examples whose float64 copies are in memory at once."""


def full_cka(layers: Sequence[NDArray[np.floating]]) -> Floats:
    """Every pair of layers, each [examples, its hidden size] of the same examples -> [layers, layers].

    ||XᵀY||² / (||XᵀX|| ||YᵀY||) of centred X and Y. No matrix has more entries than the smaller of examples² and
    hidden size². NaN where a layer is the same for all examples.
    """
    examples = len(layers[0])
    means = [np.asarray(np.mean(layer, axis=0, dtype=np.float64)) for layer in layers]
    if examples <= min(layer.shape[1] for layer in layers):
        grams = [_gram(layer, mean).ravel() for layer, mean in zip(layers, means, strict=True)]
        products = np.array([[np.dot(a, b) if j <= i else 0.0 for j, b in enumerate(grams)]
                             for i, a in enumerate(grams)])  # fmt: skip
    else:
        products = np.zeros((len(layers), len(layers)))
        for i, (x, x_mean) in enumerate(zip(layers, means, strict=True)):
            for j, (y, y_mean) in enumerate(zip(layers[: i + 1], means, strict=False)):
                cross = np.zeros((x.shape[1], y.shape[1]))
                for first in range(0, examples, ROWS):
                    part = slice(first, first + ROWS)
                    cross += (x[part] - x_mean).T @ (y[part] - y_mean)
                products[i, j] = np.vdot(cross, cross)
    return _normalized(np.tril(products) + np.tril(products, -1).T)


def minibatch_cka(layers: Sequence[NDArray[np.floating]], batch: int, seed: int) -> Floats:
    """As full_cka, from the means of HSIC₁ over minibatches of about `batch` examples (Nguyen et al. 2021, eq. 3).

    HSIC₁ is unbiased (Song et al. 2012), so that few examples do not look alike for being few. Batches are drawn by the
    seed and differ by at most one example. NaN where a layer's own HSIC₁ is not positive, as it may be of few examples.
    """
    examples = len(layers[0])
    order = np.random.default_rng(seed).permutation(examples)
    parts = np.array_split(order, -(-examples // max(4, batch)))
    if len(parts[-1]) < 4:  # HSIC₁ needs four
        parts = np.array_split(order, max(1, examples // 4))
    total = np.zeros((len(layers), len(layers)))
    for part in parts:
        rows = np.sort(part)  # mapped files are read forwards
        total += hsic1([np.asarray(layer[rows], np.float64) for layer in layers])
    return _normalized(total)


def hsic1(layers: Sequence[Floats]) -> Floats:
    """Unbiased HSIC of linear kernels of every pair of layers, each [examples, its hidden size] -> [layers, layers]."""
    n = len(layers[0])
    if n < 4:
        raise ValueError(f"HSIC needs four examples or more, not {n}")
    grams = np.empty((len(layers), n, n))
    for gram, layer in zip(grams, layers, strict=True):
        centred = layer - layer.mean(axis=0)  # HSIC does not change, but rounding errors do
        np.matmul(centred, centred.T, out=gram)
        np.fill_diagonal(gram, 0)
    flat, sums = grams.reshape(len(layers), -1), grams.sum(axis=2)
    totals = sums.sum(axis=1)
    value = flat @ flat.T + np.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (sums @ sums.T)
    return np.asarray(value / (n * (n - 3)))


def _gram(layer: NDArray[np.floating], mean: Floats) -> Floats:
    centred = layer - mean
    return np.asarray(centred @ centred.T, np.float64)


def _normalized(products: Floats) -> Floats:
    own = np.diag(products)
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.sqrt(np.where(own > 0, own, np.nan))
        return np.asarray(products / np.outer(norms, norms))
