"""Projections: PCA against scikit-learn's; t-SNE keeps what is far apart apart, and repeats itself."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from megatron_nlg.analysis.geometry.projection import pca, tsne


def test_pca() -> None:
    values = np.random.default_rng(0).normal(size=(30, 6)) * np.arange(1, 7) + 3
    found, shares = pca(values)
    theirs = PCA(2).fit(values)
    np.testing.assert_allclose(np.abs(found), np.abs(theirs.transform(values)), atol=1e-9)
    np.testing.assert_allclose(shares, theirs.explained_variance_ratio_)
    again, _ = pca(np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0] @ np.ones((6, 6)))
    assert again.shape == (6, 2)
    assert pca(np.ones((4, 3)))[1].tolist() == [0, 0]


def test_tsne() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(40, 8)) + np.where(np.arange(40) < 20, 0, 30)[:, None]
    found = tsne(values, 3)
    np.testing.assert_array_equal(found, tsne(values, 3))
    distances = np.linalg.norm(found[:, None] - found, axis=2) + np.diag([np.inf] * 40)
    assert ((distances.argmin(axis=1) < 20) == (np.arange(40) < 20)).all()
    assert not tsne(np.ones((5, 3)), 0).any()
