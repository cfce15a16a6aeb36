"""Isotropy measures where their values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from megatron_nlg.analysis.geometry.isotropy import average_cosine, iso_score


def test_average_cosine_is_that_of_all_pairs() -> None:
    values = np.random.default_rng(0).normal(size=(11, 4)) + 1
    pairs = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for i, a in enumerate(values) for b in values[:i]]
    assert average_cosine(values) == pytest.approx(np.mean(pairs))
    assert average_cosine(np.array([[1.0, 0], [0, 1], [0, 0]])) == 0


def test_iso_score_of_known_spaces() -> None:
    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(16, 16)))[0]
    even = np.vstack([turn, -turn])
    assert iso_score(even) == pytest.approx(1)
    assert iso_score(np.outer(draw.normal(size=30), turn[0]) + 7) == pytest.approx(0, abs=1e-9)
    half = np.vstack([turn[:8], -turn[:8]])  # k of d directions alike: (k - 1) / (d - 1), as the paper proves
    assert iso_score(half) == pytest.approx(7 / 15)
    assert iso_score(3 * half @ turn + 5) == pytest.approx(7 / 15)
    assert math.isnan(iso_score(np.ones((5, 4))))
