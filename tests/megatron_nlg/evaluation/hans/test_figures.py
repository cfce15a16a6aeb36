"""Planted behaviour shows as what it is, and figures are those worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.evaluation.hans.draws import draw
from megatron_nlg.evaluation.hans.figures import best_threshold, content_free_odds, correct, figures
from megatron_nlg.evaluation.hans.page import page, verdicts
from megatron_nlg.evaluation.hans.prompts import Condition, conditions, units
from megatron_nlg.evaluation.hans.reader import HEURISTICS, read_examples
from tests.megatron_nlg.evaluation.hans.fixture import (
    Policy,
    always_true,
    answered,
    biased_reader,
    by_overlap,
    reader,
    write_hans,
)

ASKED = conditions([0, 2], orders=2, shuffled=True)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    examples = read_examples(write_hans(tmp_path_factory.mktemp("h") / "h.txt", 40))
    return list(units(draw(examples, 240, 60, 8, 60, seed=0), ASKED, seed=0))


def study(work: list[Any], policy: Policy) -> dict[str, Any]:
    return figures(answered(work, policy), ASKED, seed=0)[0]


def test_a_model_that_always_says_true_has_an_answer_bias_and_no_reliance(work: list[Any]) -> None:
    found = study(work, always_true)
    assert found["answer_bias"]["said_true"]["value"] == 1 == found["answer_bias"]["said_true_of_controls"]["value"]
    assert found["accuracy"]["value"] == 0.5 and found["accuracy_non_entailed"]["value"] == 0
    assert found["answer_bias"]["content_free_log_odds"]["value"] > 2
    assert abs(found["auc"]["value"] - 0.5) < 0.1 and abs(found["reliance"]["value"] - 0.5) < 0.1
    assert "an answer bias" in verdicts([found])[0] and "no clear reliance" in verdicts([found])[0]


def test_a_model_that_goes_by_overlap_relies_and_no_threshold_helps(work: list[Any]) -> None:
    found = study(work, by_overlap)
    assert found["accuracy_entailed"]["value"] == 1 and found["accuracy_non_entailed"]["value"] == 0
    assert found["reliance"]["value"] > 0.99 and found["answer_bias"]["said_true_of_controls"]["value"] < 0.1
    assert found["answer_bias"]["content_free_log_odds"]["value"] < 0  # not a liking for True
    assert abs(found["held_out"]["value"] - 0.5) < 0.12
    assert all(found["by_heuristic"][h]["reliance"]["value"] > 0.99 for h in HEURISTICS)
    assert verdicts([found])[0].endswith("a reliance on overlap.") and "no better than chance" in verdicts([found])[0]


def test_a_reader_and_one_with_a_bias_that_a_threshold_undoes(work: list[Any]) -> None:
    found = study(work, reader)
    assert found["accuracy"]["value"] == 1 == found["auc"]["value"] == found["held_out"]["value"]
    assert abs(found["reliance"]["value"] - 0.5) < 0.1 and "no clear answer bias" in verdicts([found])[0]
    biased = figures(answered(work, biased_reader, noise=0.05), ASKED, seed=0)[0]
    assert biased["accuracy"]["value"] == 0.5 and biased["auc"]["value"] == 1
    assert biased["held_out"]["value"] == 1 == biased["calibrated"]["value"]
    assert 4 < biased["held_out"]["threshold"] < 5
    assert biased["answer_bias"]["gain_of_moved_threshold"]["value"] == 0.5
    curve = biased["threshold_curve"]
    best = int(np.argmax(curve["accuracy"]["all"]))
    assert curve["accuracy"]["all"][best] == 1 and 4 < curve["thresholds"][best] < 5
    assert 0.0 in curve["thresholds"] and curve["accuracy"]["all"][curve["thresholds"].index(0.0)] == 0.5


def test_what_only_the_shots_do_is_not_taken_for_reading(work: list[Any]) -> None:
    """A model whose answer depends on the shots it got, and on nothing else."""
    rows = answered(work, lambda premise, hypothesis, follows: 0.0)
    for row in rows:
        row["logprobs"][1] += 3.0 * (row["set"] % 4)
    assert all(abs(c["auc"]["value"] - 0.5) < 0.1 for c in figures(rows, ASKED, seed=0))


def test_the_page_says_and_draws_it(work: list[Any]) -> None:
    rows = figures(answered(work, by_overlap), ASKED, seed=0)
    settings = {"seed": 0, "shot_pool": 8, "shot_sets": 16, "held_out": 60, "controls": 60}
    checkpoints = [{"step": step, "conditions": rows} for step in (2, 4)]
    text = page({"run": "a<b", "file": "h.txt", "settings": settings, "checkpoints": checkpoints})
    assert "a<b" not in text and "a reliance on overlap" in text and "Over the run" in text
    assert text.count('<svg class="chart"') == 8 and "<script" not in text and "http-equiv" not in text


def row(part: str, odds: float, entailed: bool = False, number: int = 0) -> dict[str, Any]:
    return {"part": part, "set": number, "entailed": entailed, "logprobs": [0.0, odds]}


def test_content_free_odds_are_of_mean_probabilities() -> None:
    """P(True) 1/4 and 3/4: the mean is 1/2; 9/10 alone stays."""
    rows = [row("content_free", math.log(1 / 3)), row("content_free", math.log(3)),
            row("content_free", math.log(9), number=1)]  # fmt: skip
    assert content_free_odds(rows) == pytest.approx({0: 0.0, 1: math.log(9)}, abs=1e-12)


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=20))
def test_no_threshold_is_better(pairs: list[tuple[int, bool]]) -> None:
    odds, truth = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    found = correct(odds, truth, best_threshold(odds, truth)).sum()
    assert found == max(correct(odds, truth, cut).sum() for cut in np.arange(-5, 5.25, 0.5))


def test_ties_count_half_and_nothing_held_out_moves_nothing() -> None:
    assert correct(np.array([0.0, 1.0, -1.0]), np.array([True, True, True]), 0.0).tolist() == [0.5, 1, 0]
    assert best_threshold(np.array([]), np.array([], bool)) == 0


def test_conditions_keep_their_names() -> None:
    assert Condition(1).name == "1-true-0" and str(Condition(4, "shuffled", 0)) == "4 shots, shuffled labels"


def test_without_controls_or_held_out(tmp_path: Path) -> None:
    examples = read_examples(write_hans(tmp_path / "h.txt", 4))
    some = list(units(draw(examples, None, 0, 0, 0, seed=0), [Condition(0)], seed=0))
    [found] = figures(answered(some, reader), [Condition(0)], seed=0)
    assert found["reliance"] == {"value": None, "low": None, "high": None, "size": 0}
    assert found["held_out"]["threshold"] == 0 and verdicts([found])
