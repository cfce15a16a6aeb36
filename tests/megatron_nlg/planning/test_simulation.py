from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.planning.simulation import Pipeline, simulate


def even(stages: int, chunks: int, micro_batches: int, **options: object) -> Pipeline:
    """Passes of 1 s forward and 2 s backward through a stage, in equal chunks."""
    ones = np.full((stages, chunks), 1 / chunks)
    return Pipeline(ones, 2 * ones, micro_batches, **options)  # type: ignore[arg-type]


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 6), st.sampled_from(["gpipe", "1f1b"]))
@settings(max_examples=60)
def test_the_bubble_is_the_papers(stages: int, chunks: int, groups: int, schedule: str) -> None:
    """Bubble over ideal time (p − 1) / m, over the chunks when interleaved (Narayanan et al. 2021, section 2.2)."""
    micro_batches = groups * stages
    found = simulate(even(stages, chunks, micro_batches, schedule=schedule))
    bubble = (stages - 1) / micro_batches / chunks
    assert found.seconds[0] == pytest.approx(3 * micro_batches * (1 + bubble))
    assert found.busy[0] == pytest.approx(1 / (1 + bubble))


def test_the_slowest_stage_sets_the_pace() -> None:
    forward = np.array([[1.0], [1.5], [1.0], [1.0]])
    many = [simulate(Pipeline(forward, 2 * forward, m)).seconds[0] for m in (400, 401)]
    assert many[1] - many[0] == pytest.approx(4.5)


def test_messages_delay_and_block() -> None:
    late = simulate(even(4, 1, 1, message=0.1)).seconds[0]
    assert late == pytest.approx(12 + 6 * 0.1)
    overlapped, blocked = (simulate(even(4, 1, 64, message=0.1, blocking=b)).seconds[0] for b in (False, True))
    ideal = 3.0 * (64 + 3)
    assert ideal < overlapped < blocked
    assert blocked - ideal == pytest.approx(2 * 0.1 * 64, rel=0.1)


def test_no_pass_begins_before_its_input_and_none_overlap() -> None:
    draw = np.random.default_rng(1)
    forward = draw.uniform(0.5, 1.5, (4, 2))
    found = simulate(Pipeline(forward, 2 * forward, 8, message=0.05), replicas=3, jitter=0.2, seed=5)
    ends = {(s, p): found.end[s][i] for s, order in enumerate(found.orders) for i, p in enumerate(order)}
    for stage, order in enumerate(found.orders):
        assert (found.begin[stage][1:] >= found.end[stage][:-1] - 1e-12).all()
        for i, step in enumerate(order):
            if step.kind == "forward" and stage:
                assert (found.begin[stage][i] >= ends[stage - 1, step] + 0.05 - 1e-12).all()
    assert len(set(found.seconds)) == 3
    again = simulate(Pipeline(forward, 2 * forward, 8, message=0.05), replicas=3, jitter=0.2, seed=5)
    assert (again.seconds == found.seconds).all()


def test_ten_thousand_gpus() -> None:
    found = simulate(even(35, 3, 245), replicas=36, jitter=0.02)  # × 8 tensor-parallel ranks
    assert found.seconds.shape == (36,)
    bubble = 34 / 245 / 3
    assert (found.seconds > 3 * 245 * (1 + bubble)).all()  # jitter only ever costs time
    assert (found.seconds < 3 * 245 * (1 + bubble) * 1.1).all()
