from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.planning.schedule import Schedule
from megatron_nlg.planning.sharing import simulate_shared
from megatron_nlg.planning.simulation import Pipeline, simulate

SCHEDULES = st.sampled_from(["gpipe", "1f1b"])


def drawn(stages: int, chunks: int, groups: int, schedule: Schedule) -> Pipeline:
    forward = np.random.default_rng(stages * chunks).uniform(0.5, 1.5, (stages, chunks))
    return Pipeline(forward, 2 * forward, groups * stages, schedule=schedule)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), SCHEDULES)
@settings(max_examples=40)
def test_enough_cores_change_nothing(stages: int, chunks: int, groups: int, schedule: Schedule) -> None:
    pipeline = drawn(stages, chunks, groups, schedule)
    alone, shared = simulate(pipeline), simulate_shared(pipeline, lambda busy: 1.0, [0.0] * stages)
    for a, b in zip(alone.end, shared.end, strict=True):
        assert a == pytest.approx(b)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), SCHEDULES)
@settings(max_examples=40)
def test_one_core_does_all_work_one_after_the_other(stages: int, chunks: int, groups: int, schedule: Schedule) -> None:
    """Whatever the schedule: a bubble costs nothing where others use the core."""
    pipeline = drawn(stages, chunks, groups, schedule)
    found = simulate_shared(pipeline, lambda busy: 1 / busy, [0.5] * stages)
    work = pipeline.micro_batches * float((pipeline.forward + pipeline.backward).sum()) + 0.5 * stages
    assert found.seconds[0] == pytest.approx(work)


def test_a_message_costs_both_ends() -> None:
    pipeline = Pipeline(np.ones((2, 1)), np.ones((2, 1)), 1, message=0.5)
    assert simulate_shared(pipeline, lambda busy: 1.0, [0.0, 0.0]).seconds[0] == pytest.approx(4 + 2 * 0.5)
