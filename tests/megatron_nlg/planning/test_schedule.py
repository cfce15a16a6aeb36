"""The order of passes against Megatron-core's, as runs on the CPU record it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.planning.schedule import Pass, stage_order
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.timeline import Timeline
from tests.megatron_nlg.training.steps import batch
from tests.tiny import tiny
from tests.world import World


def record(*overrides: str) -> tuple[int, list[tuple[str, int, int]]]:
    """This rank's stage, and its passes in the order in which they began."""
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    batches = batch(config, context, 0, config.batch.global_)
    timeline = Timeline((1, 2), engine, context, Path("unused"))
    with timeline.step(1, len(batches), 0.0):
        engine.train_step(batches, 1e-3, 0)
    passes = [span for span in timeline.spans if span.phase in ("forward", "backward")]
    passes.sort(key=lambda span: span.begin)
    engine.destroy()
    dist.barrier()
    return context.at.pipe, [(p.phase, p.details["micro_batch"], p.details["chunk"]) for p in passes]


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (1, ""),
        (2, "parallel.pipeline=2"),
        (4, "parallel.pipeline=4"),
        (4, "parallel.pipeline=4 batch.global=4"),
        (2, "parallel.pipeline=2 parallel.interleave=2"),
        (4, "parallel.pipeline=4 parallel.interleave=2 model.num_layers=8"),
        (2, "parallel.pipeline=2 parallel.interleave=2 batch.global=4"),
    ],
)
def test_the_order_is_recorded(world: World, ranks: int, overrides: str) -> None:
    config = tiny(*overrides.split())
    parallel, micro_batches = config.parallel, config.batch.global_ // config.batch.micro
    for stage, found in world.run(ranks, record, *overrides.split()):
        assert found == stage_order("1f1b", parallel.pipeline, parallel.interleave, micro_batches, stage)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.sampled_from(["gpipe", "1f1b"]))
def test_every_pass_once_and_backward_after_forward(stages: int, chunks: int, groups: int, schedule: str) -> None:
    micro_batches = groups * stages
    for stage in range(stages):
        order = stage_order(schedule, stages, chunks, micro_batches, stage)  # type: ignore[arg-type]
        assert len(order) == len(set(order)) == 2 * micro_batches * chunks
        for at, step in enumerate(order):
            if step.kind == "backward":
                assert Pass("forward", step.micro_batch, step.chunk) in order[:at]


def test_interleaving_needs_whole_groups() -> None:
    with pytest.raises(ValueError, match="6 micro-batches are not a multiple of 4"):
        stage_order("1f1b", 4, 2, 6, 0)
