"""Occupations: masses and shares by hand, and lists in the published layout."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.bias.occupations import VARIANTS, correlation, figures, probability_masses, units
from megatron_nlg.evaluation.bias.wordlists import Occupation, packaged, packaged_occupations, read_occupations

TITLES = st.text(st.characters(categories=("L",), codec="utf-8"), min_size=1)


def test_packaged_lists_say_where_they_come_from() -> None:
    for name in ("identity", "groups", "function_words", "occupations"):
        assert len(packaged(name)["source"]) > 20
    assert len(packaged("identity")["female"]) == len(packaged("identity")["male"])
    assert len({o.name for o in packaged_occupations()}) == len(packaged_occupations()) > 100


@given(st.lists(st.tuples(TITLES, st.floats(-1, 1), st.integers(-1, 1)), min_size=1))
def test_any_professions(tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, float, int]]) -> None:
    path = tmp_path_factory.mktemp("p") / "p.json"
    path.write_text(json.dumps(entries))
    assert read_occupations(path) == [Occupation(n, d, s) for n, d, s in entries]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not valid JSON"),
        ("[]", "a list of"),
        ('[["nurse", 0, 0], ["pilot", 2, 0]]', r'entry 2: is \["pilot", 2, 0\]; it must be'),
        ('[["nurse", 0]]', "entry 1"),
        ('[["", 0, 0]]', "entry 1"),
        ('[["x", true, 0]]', "entry 1"),
    ],
)
def test_broken_professions(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_occupations(tmp_path / "p.json")


def rows(leanings: dict[str, float], occupations: list[Occupation]) -> dict[str, dict[str, Any]]:
    """As if each female word had exp(leaning) times the probability of each male one."""
    count = len(packaged("identity")["female"])
    return {
        unit.key: {"logprobs": [-5 + leanings[unit.key.rsplit("/", 1)[1]]] * count + [-5.0] * count}
        for unit in units(occupations)
    }


def test_planted_leanings() -> None:
    leanings = {"nurse": 1.0, "pilot": -2.0, "baker": 0.0, "cook": -1.0, "actress": 9.0}
    stereotypes = {"nurse": -0.5, "pilot": 1.0, "baker": 0.0, "cook": 0.5, "actress": 0.0}
    occupations = [Occupation(n, -1.0 if n == "actress" else 0.0, stereotypes[n]) for n in leanings]
    found = figures(rows(leanings, occupations), occupations, seed=0)
    assert found["occupations"] == 4 and found["left_out"] == 1 and set(found["variants"]) == set(VARIANTS)
    part = found["variants"]["neutral"]
    assert part["share_leaning_male"]["value"] == 2.5 / 4
    assert part["mean_log_ratio"]["value"] == -0.5
    assert [e["occupation"] for e in part["most_male"]] == ["pilot", "cook", "baker", "nurse"]
    assert part["most_female"][0]["occupation"] == "nurse"
    assert part["correlation_with_stereotype"]["value"] == 1
    plain = [Occupation(n) for n in leanings]
    assert figures(rows(leanings, plain), plain, 0)["variants"]["neutral"]["correlation_with_stereotype"] is None


def test_masses_are_sums_of_probabilities() -> None:
    count = len(packaged("identity")["female"])
    female, male = probability_masses([math.log(0.02)] * count + [math.log(0.03)] * count)
    assert female == pytest.approx(0.02 * count) and male == pytest.approx(0.03 * count)


def test_correlation_is_pearsons() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=50), draw.normal(size=50)
    found = correlation(x, x + y, seed=0)
    assert found["value"] == pytest.approx(np.corrcoef(x, x + y)[0, 1], abs=1e-4)
    assert found["low"] < found["value"] < found["high"]


def test_the_published_list(real_data: Path) -> None:
    found = read_occupations(real_data / "bias" / "debiaswe_professions.json")
    assert len(found) == 320 and Occupation("actress", -1.0, 0.0) in found
