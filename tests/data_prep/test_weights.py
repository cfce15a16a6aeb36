import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.recipe import BlendRule
from data_prep.weights import report, table, weights

MT_NLG = {
    "books3": (25.7, 0.14336, 1.5),
    "openwebtext2": (14.8, 0.19336, 3.6),
    "stack_exchange": (11.6, 0.05689, 1.4),
    "pubmed_abstracts": (4.4, 0.02897, 1.8),
    "wikipedia": (4.2, 0.04771, 3.2),
    "gutenberg_pg19": (2.7, 0.00873, 0.9),
    "bookcorpus2": (1.5, 0.01007, 1.8),
    "nih_exporter": (0.3, 0.00208, 1.8),
    "pile_cc": (49.8, 0.09446, 0.5),
    "arxiv": (20.8, 0.01359, 0.2),
    "github": (24.3, 0.01588, 0.2),
    "cc_2020_50": (68.7, 0.13017, 0.5),
    "cc_2021_04": (82.6, 0.15652, 0.5),
    "realnews": (21.9, 0.08962, 1.1),
    "cc_stories": (5.3, 0.00859, 0.5),
}
"""Billions of tokens, weight, epochs over 270 billion, as printed."""

TOKENS = {name: round(row[0] * 1e9) for name, row in MT_NLG.items()}
GIVEN = {name: row[1] for name, row in MT_NLG.items()}


def test_mt_nlg_epochs_come_out_of_its_weights() -> None:
    about = report(BlendRule(tokens=270_000_000_000), weights(BlendRule(), GIVEN, TOKENS), TOKENS)
    for name, (_, _, epochs) in MT_NLG.items():
        # The printed epochs are rounded to a tenth, and Wikipedia's and Stack Exchange's counts to fewer digits.
        assert about["sources"][name]["epochs"] == pytest.approx(epochs, abs=0.14)
    assert sum(row["tokens_read"] for row in about["sources"].values()) == pytest.approx(270e9, rel=1e-9)
    assert about["samples"] == math.ceil(270e9 / 2048)
    assert "131,835,938 samples of 2,048" in table(about).splitlines()[0]


def test_mt_nlg_weights_come_out_of_its_epochs() -> None:
    rule = BlendRule(weights="epochs", epochs={name: row[2] for name, row in MT_NLG.items()})
    found = weights(rule, GIVEN, TOKENS)
    total = sum(found.values())
    for name, weight in GIVEN.items():
        assert found[name] / total == pytest.approx(weight, abs=0.008)


def test_weights_by_tokens() -> None:
    tokens = {"a": 8_000, "b": 1_000}
    assert weights(BlendRule(weights="tokens"), {"a": 1, "b": 9}, tokens) == {"a": 1, "b": 0.125}
    assert weights(BlendRule(weights="tokens", temperature=3.0), {"a": 1, "b": 1}, tokens) == {"a": 1, "b": 0.5}


@given(
    tokens=st.lists(st.integers(1, 10**13), min_size=1, max_size=6),
    temperature=st.floats(0.1, 100),
    budget=st.integers(1, 10**13),
)
def test_any_corpus(tokens: list[int], temperature: float, budget: int) -> None:
    counts = {str(i): count for i, count in enumerate(tokens)}
    rule = BlendRule(weights="tokens", temperature=temperature, tokens=budget)
    found = weights(rule, dict.fromkeys(counts, 1.0), counts)
    assert all(0 < weight <= 1 for weight in found.values())
    order = sorted(counts, key=counts.__getitem__)
    assert all(found[a] <= found[b] for a, b in pairwise(order))
    rows = report(rule, found, counts)["sources"]
    assert sum(row["tokens_read"] for row in rows.values()) == pytest.approx(budget, abs=len(rows))
    table(report(rule, found, counts))


def test_the_greedy_rule_gives_these_samples() -> None:
    """Of Megatron-core's blended dataset, by its own compiled function."""
    from megatron_nlg.data.mixture import blend_order

    about = report(BlendRule(tokens=200_000, sequence_length=16), GIVEN, TOKENS)
    source, _ = blend_order(list(GIVEN.values()), about["samples"])
    for name, count in zip(GIVEN, np.bincount(source, minlength=len(GIVEN)), strict=True):
        assert abs(int(count) - about["sources"][name]["samples"]) <= 1
