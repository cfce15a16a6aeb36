"""Rows of a measurement: what they say of a planted class, and of its control task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from megatron_nlg.analysis.probing import measure as module
from megatron_nlg.analysis.probing.fit import Training
from megatron_nlg.analysis.probing.measure import measure
from megatron_nlg.analysis.probing.scores import accuracy, control_labels, macro_f1
from tests.megatron_nlg.analysis.probing.planted import planted


def test_a_planted_class_is_selective_in_its_layer() -> None:
    rows = list(measure([planted()], Training(rounds=12, seed=1)))
    assert [row["layer"] for row in rows] == [0, 1, 2] and {row["examples"] for row in rows} == {480}
    assert rows[1]["accuracy"] > 0.95 and rows[1]["f1"] > 0.95 and rows[1]["compression"] > 2.5
    assert rows[1]["selectivity"] == rows[1]["accuracy"] - rows[1]["control"]["accuracy"] > 0.4
    for row in rows:
        assert row["control"]["compression"] == pytest.approx(1, abs=0.05)
        assert sum(bits for _, bits in row["portions"]) == pytest.approx(row["bits"])
    assert max(rows[0]["accuracy"], rows[2]["accuracy"]) < 0.55


def test_types_that_can_be_remembered_are_not_selective() -> None:
    """The class is the type's: a probe that remembers types does as well with random classes."""
    some = planted(classes=6)
    types = [str(label) for label in some.labels]
    row = list(measure([replace(some, types=types)], Training()))[1]
    assert row["accuracy"] > 0.95 and row["control"]["accuracy"] > 0.95 and abs(row["selectivity"]) < 0.05


def test_layers_that_do_not_fit_together_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    some, how = planted(120, layers=3), Training(rounds=3)
    together = list(measure([some], how))
    monkeypatch.setattr(module, "AT_ONCE", some.values.nbytes * 2 // 3)
    assert module.groups([some], how) == [range(2), range(2, 3)]
    assert module.groups([some], replace(how, kind="mix")) == [range(3)]
    for row, other in zip(together, measure([some], how), strict=True):
        assert row["layer"] == other["layer"] and row["bits"] == pytest.approx(other["bits"], rel=1e-4)


def test_several_tasks_have_rows_of_their_own() -> None:
    rows = list(
        measure([planted(300), replace(planted(300, 4, spans=2), task="other")], Training("multi", width=16, rounds=12))
    )
    assert [(row["task"], row["layer"]) for row in rows] == [(t, i) for t in ("planted", "other") for i in range(3)]
    assert rows[1]["compression"] > 1.5 < rows[4]["compression"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_f1_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, right = torch.tensor(pairs).T
    assert macro_f1(predicted, right, 5) == pytest.approx(f1_score(right, predicted, average="macro", zero_division=0))
    assert accuracy(predicted, right) == pytest.approx(np.mean([a == b for a, b in pairs]))


def test_control_labels_are_those_of_their_types() -> None:
    labels = np.repeat([0, 1], [900, 100])
    types = [f"t{i % 200}" for i in range(1000)]
    first, again, other = (control_labels(types, labels, seed) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert all(len(set(first[i::200])) == 1 for i in range(200))
    assert 0.02 < first.mean() < 0.2  # as the true ones are spread
    assert (control_labels(types[:7], labels[:7] + 1, 0) == 1).all()
