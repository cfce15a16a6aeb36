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


def test_ranks_on_two_cores_take_what_their_work_takes() -> None:
    """Eight ranks do the work of one on two cores, with more communication; a second node halves their share."""
    from megatron_nlg.config.cluster import Cluster, Compute, Level
    from megatron_nlg.planning.step import StepModel, as_dict
    from tests.tiny import tiny

    level = {"bandwidth_gbs": 1000.0}
    levels = (Level(name="gpu", **level), Level(name="node", **level))  # type: ignore[arg-type]
    compute = Compute(memory_gbs=10, cores=2)
    cluster = Cluster(name="cpu", nodes=1, gpus_per_node=0, peak_tflops=0.1, compute=compute, levels=levels)
    one, two, eight = (
        StepModel(tiny(*settings), cluster, ranks).step(8 // data)
        for ranks, data, *settings in ((1, 1), (2, 2), (8, 2, "parallel.tensor=2", "parallel.pipeline=2"))
    )
    assert two.seconds == pytest.approx(one.seconds / 2, rel=0.1)
    assert 0.9 * one.seconds / 2 < eight.seconds < 1.5 * one.seconds / 2
    for step in (one, two, eight):
        assert sum(as_dict(step.breakdown).values()) == pytest.approx(step.seconds)
