"""Samples are balanced, disjoint and the same for a seed; controls overlap little; shots are what they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.hans.draws import Draw, balanced, draw, words
from megatron_nlg.evaluation.hans.prompts import Condition, conditions, examples_shown, question, units
from megatron_nlg.evaluation.hans.reader import Example, read_examples
from tests.megatron_nlg.evaluation.hans.fixture import write_hans


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return read_examples(write_hans(tmp_path_factory.mktemp("hans") / "h.txt", 10))


@given(st.integers(0, 99), st.integers(0, 20))
def test_every_beginning_is_balanced(examples: list[Example], seed: int, sixes: int) -> None:
    some = balanced(examples, seed)[: 6 * sixes]
    assert set(Counter((e.heuristic, e.entailed) for e in some).values()) <= {sixes}
    assert sorted(e.name for e in balanced(examples, seed)) == sorted(e.name for e in examples)
    subcases = Counter(e.subcase for e in some)
    assert not subcases or max(subcases.values()) - min(subcases.get(e.subcase, 0) for e in examples) <= 1


def test_parts_share_nothing(examples: list[Example]) -> None:
    drawn = draw(examples, 48, 24, 18, 12, seed=3)
    parts = [{e.name for e in part} for part in (drawn.asked, drawn.held_out, drawn.shots)]
    assert [len(part) for part in parts] == [48, 24, 18] and len(set().union(*parts)) == 90
    assert draw(examples, 48, 24, 18, 12, seed=3) == drawn != draw(examples, 48, 24, 18, 12, seed=4)
    assert len(drawn.controls) == 12 and not any(e.entailed for e in drawn.controls)
    assert all(not words(e.premise) & words(e.hypothesis) for e in drawn.controls)
    rest = draw(examples, None, 24, 18, 0, seed=3)
    assert len(rest.asked) == len(examples) - 42 and rest.asked == [e for e in examples if e in set(rest.asked)]
    with pytest.raises(InputError, match=r"has 120 examples, and 142 are needed \(24 --held-out, 18 for shots, 100"):
        draw(examples, 100, 24, 18, 12, seed=3)


def shots(text: str) -> list[tuple[str, str]]:
    blocks = [block.rsplit("Answer:", 1) for block in text.split("\n\n") if block]
    return [(before, answer.strip()) for before, answer in blocks]


def test_shots(examples: list[Example]) -> None:
    pool = balanced(examples, 1)[:24]
    truth = {question(e.premise, e.hypothesis).removesuffix("Answer:"): str(e.entailed) for e in pool}
    plain = shots(examples_shown(Condition(6), pool, 2, seed=0))
    assert len(plain) == 6 == len({text for text, _ in plain}) and Counter(a for _, a in plain) == {
        "True": 3,
        "False": 3,
    }
    assert all(truth[text] == answer for text, answer in plain)
    shuffled = shots(examples_shown(Condition(6, "shuffled"), pool, 2, seed=0))
    assert [text for text, _ in shuffled] == [text for text, _ in plain]
    assert Counter(a for _, a in shuffled) == Counter(a for _, a in plain)
    kinds = [[a for _, a in shots(examples_shown(Condition(6, "shuffled"), pool, n, 0))] for n in range(8)]
    assert any(kind != [a for _, a in shots(examples_shown(Condition(6), pool, n, 0))] for n, kind in enumerate(kinds))
    other = shots(examples_shown(Condition(6, "true", 1), pool, 2, seed=0))
    assert other != plain and sorted(other) == sorted(plain)
    single = [shots(examples_shown(Condition(1), pool, number, seed=0)) for number in range(16)]
    assert {len(s) for s in single} == {1} and {s[0][1] for s in single} == {"True", "False"}
    assert examples_shown(Condition(0), pool, 0, seed=0) == ""


def test_conditions_and_units(examples: list[Example]) -> None:
    asked = conditions([0, 1, 4], orders=3, shuffled=True)
    assert [str(c) for c in asked] == [
        "0 shots", "1 shot", "4 shots", "1 shot, shuffled labels", "4 shots, shuffled labels", "4 shots, order 2",
        "4 shots, order 3",
    ]  # fmt: skip
    drawn: Draw = draw(examples, 12, 6, 8, 6, seed=0)
    work = list(units(drawn, asked[:2], seed=0))
    assert len({unit.key for unit in work}) == len(work) == 2 * (12 + 6 + 6) + 3 + 3 * 2
    assert all(unit.requests[0][0].endswith("True or False?\nAnswer:") for unit in work)


def test_draws_of_shots_meet_both_halves_alike(examples: list[Example]) -> None:
    drawn = draw(examples, 96, 0, 8, 0, seed=0)
    asked = [u.about for u in units(drawn, [Condition(2)], seed=0) if u.about["part"] == "asked"]
    met = Counter((a["set"], a["heuristic"], a["entailed"]) for a in asked)
    assert set(met.values()) == {1} and len(met) == 96


def test_a_file_on_disk_of_one_label(tmp_path: Path) -> None:
    only = [e for e in read_examples(write_hans(tmp_path / "h.txt", 3)) if e.entailed]
    assert len(balanced(only, 0)) == 18
