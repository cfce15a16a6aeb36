from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.schema import Guard
from megatron_nlg.studies.sweep.rules import Rules
from megatron_nlg.studies.sweep.verdict import (
    DIVERGED,
    FAILED,
    NOT_LEARNT,
    SPIKES,
    STABLE,
    UNFINISHED,
    judge,
    largest_good,
    largest_stable,
)

UNIFORM = math.log(100)


def fine(steps: int = 100, start: float = UNIFORM, end: float = 2.0) -> list[float]:
    """An exponential fall with the noise of batches."""
    noise = np.random.default_rng(0).normal(0, 0.02, steps)
    return [float(end + (start - end) * math.exp(-step / 20) + noise[step]) for step in range(steps)]


def word(losses: list[float | None], warmup: int = 10, gave_up: str | None = None) -> str:
    return judge(losses, UNIFORM, warmup, Rules(), gave_up).word


def test_a_falling_curve_is_stable() -> None:
    verdict = judge(fine(), UNIFORM, 10, Rules())
    assert (verdict.word, verdict.spikes) == (STABLE, ())
    assert verdict.final == pytest.approx(2.0, abs=0.05)


def test_a_loss_that_is_no_number_has_diverged() -> None:
    losses: list[float | None] = [*fine(50), None, *fine(49)]
    assert judge(losses, UNIFORM, 10, Rules()).why == "the loss of step 51 is not finite"
    assert word([*fine(50), math.nan]) == DIVERGED


def test_training_that_gave_up_has_diverged() -> None:
    assert word([*fine()], gave_up="4 steps were skipped") == DIVERGED
    assert word([], gave_up="4 steps were skipped") == DIVERGED


def test_a_curve_that_rises_and_stays_has_diverged_and_one_that_comes_back_has_a_spike() -> None:
    up, down = fine(), fine()
    up[60:] = [loss + 1.5 for loss in up[60:]]
    down[60:64] = [loss + 1.5 for loss in down[60:64]]
    assert word([*up]) == DIVERGED
    verdict = judge(down, UNIFORM, 10, Rules())
    assert (verdict.word, verdict.spikes) == (SPIKES, (61,))


def test_two_spikes_are_two_and_small_ones_none() -> None:
    losses = fine()
    for step in (70, 90):
        losses[step] += 1.0
    losses[80] += 0.15  # less than the margin
    assert judge(losses, UNIFORM, 10, Rules()).spikes == (71, 91)
    assert judge(losses, UNIFORM, 10, Rules(spike_margin=1.5)).word == STABLE


def test_an_early_hump_above_the_beginning_is_a_spike() -> None:
    losses = fine()
    losses[5:12] = [UNIFORM + 1.0] * 7  # before the window of losses is full
    assert judge(losses, UNIFORM, 10, Rules()).spikes == (6,)


def test_above_the_uniform_level() -> None:
    above = fine(start=UNIFORM, end=UNIFORM + 0.4)
    assert word([*above]) == DIVERGED
    slow = fine(start=UNIFORM, end=UNIFORM + 0.1)
    assert (word([*slow]), word([*slow], warmup=100)) == (DIVERGED, NOT_LEARNT)  # the warm-up is over, and is not
    assert word([*fine(start=30, end=8)]) == NOT_LEARNT  # it falls, from a large initial deviation
    assert word([]) == UNFINISHED


@given(st.lists(st.floats(0.5, 50), min_size=1, max_size=60), st.floats(-0.2, 0.2))
def test_a_shifted_curve_has_the_shifted_level(losses: list[float], shift: float) -> None:
    there = judge(losses, UNIFORM, 0, Rules())
    moved = judge([loss + shift for loss in losses], UNIFORM + shift, 0, Rules())
    assert there.final is not None and moved.final == pytest.approx(there.final + shift)


def test_the_largest_stable_rate() -> None:
    rates = [0.1, 0.001, 0.01]
    assert largest_stable(rates, [DIVERGED, STABLE, STABLE]) == (0.01, False)
    assert largest_stable(rates, [STABLE] * 3) == (0.1, True)
    assert largest_stable(rates, [STABLE, STABLE, SPIKES]) == (0.001, False)  # an island counts for nothing
    assert largest_stable(rates, [DIVERGED, NOT_LEARNT, STABLE]) == (0.01, False)
    assert largest_stable(rates, [STABLE, FAILED, STABLE]) == (None, False)
    assert largest_stable(rates, [NOT_LEARNT] * 3) == (None, False)


def test_the_largest_good_rate_ends_about_as_low_as_the_best() -> None:
    rates, words = [0.001, 0.01, 0.1, 1.0], [STABLE, STABLE, STABLE, DIVERGED]
    assert largest_good(rates, words, [2.5, 2.3, 2.6, 2.2], worse=0.25) == 0.01
    assert largest_good(rates, words, [2.5, 2.3, 2.5, 2.2], worse=0.25) == 0.1
    assert largest_good(rates, [FAILED] * 4, [None] * 4, worse=0.25) is None


def test_spikes_are_the_guards_by_default() -> None:
    assert (Rules().spike_factor, Rules().spike_margin) == (Guard().spike_factor, Guard().spike_margin)
