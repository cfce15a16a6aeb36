"""Examples in two dimensions: PCA, and t-SNE (van der Maaten and Hinton 2008) by scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERPLEXITY = 30.0
COMPONENTS = 50
"""Principal components that t-SNE sees at most, as its authors advise."""
Floats = NDArray[np.float64]


def pca(values: NDArray[np.floating], components: int = 2) -> tuple[Floats, Floats]:
    """values [examples, hidden size] -> coordinates [examples, components], and these components' shares of variance.

    A component points where its largest weight is positive: the same picture in every run.
    """
    rows = np.asarray(values, np.float64)
    centred = rows - rows.mean(axis=0)
    left, lengths, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    found = np.zeros((len(rows), components))
    found[:, : len(lengths)] = (left * lengths * signs)[:, :components]
    total = float(np.square(lengths).sum())
    shares = np.zeros(components)
    shares[: len(lengths)] = np.square(lengths[:components]) / total if total else 0.0
    return found, shares


def tsne(values: NDArray[np.floating], seed: int) -> Floats:
    """values [examples, hidden size] -> coordinates [examples, 2]; the same for the same seed."""
    from sklearn.manifold import TSNE

    reduced, _ = pca(values, min(COMPONENTS, *values.shape))
    spread = reduced[:, 0].std()
    if not spread > 0:
        return np.zeros((len(values), 2))
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    model = TSNE(perplexity=perplexity, init=1e-4 * reduced[:, :2] / spread, random_state=seed)
    return np.asarray(model.fit_transform(reduced), np.float64)
