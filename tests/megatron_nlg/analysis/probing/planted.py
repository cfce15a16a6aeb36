"""Representations with a class planted in one layer."""

from __future__ import annotations

import numpy as np

from megatron_nlg.analysis.probing.measure import Represented


def planted(examples: int = 600, classes: int = 3, layers: int = 3, spans: int = 1, where: int = 1) -> Represented:
    """Noise [layers, examples, spans, 12], and in layer `where` the class along a direction."""
    draw = np.random.default_rng(0)
    labels = draw.integers(classes, size=examples)
    values = draw.normal(size=(layers, examples, spans, 12)).astype(np.float32)
    values[where, :, 0] += 4 * draw.normal(size=(classes, 12)).astype(np.float32)[labels]
    return Represented("planted", values, labels, classes, [str(i % 40) for i in range(examples)])
