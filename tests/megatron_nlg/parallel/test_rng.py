"""Streams of random numbers: functions of (seed, step, coordinates) and of nothing else."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.device import select_device
from megatron_nlg.parallel.rng import MODEL_PARALLEL, CpuRngTracker, derive_seed, seed_step
from tests.tiny import tiny
from tests.world import World

PARTS = st.lists(st.one_of(st.integers(0, 2**40), st.text("abc.", min_size=1)), min_size=1, max_size=4)


@given(PARTS)
def test_seeds_are_ones_that_torch_takes(parts: list[Any]) -> None:
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63 and seed == derive_seed(*parts)
    torch.Generator().manual_seed(seed)


def test_seeds_are_the_same_on_every_machine_and_spread() -> None:
    assert derive_seed(1234, "embedding.word_embeddings.weight", 0) == 4804774616763579090
    seeds = {derive_seed(seed, step, pipe) for seed in range(20) for step in range(20) for pipe in range(20)}
    assert len(seeds) == 8000
    assert derive_seed(1, 23) != derive_seed(12, 3)


def draws(*steps: tuple[int, int]) -> list[tuple[list[float], list[float]]]:
    """For every (seed, step): numbers of the default stream, and of the tensor-parallel one."""
    from megatron.core.tensor_parallel.random import get_cuda_rng_tracker

    context = ParallelContext.create(tiny("parallel.tensor=2", "parallel.pipeline=2"))
    got = []
    for seed, step in steps:
        seed_step(seed, step, context.at, context.device)
        common = torch.rand(3)
        with get_cuda_rng_tracker().fork():
            own = torch.rand(3)
        assert torch.equal(torch.rand(2), _third_and_fourth(context, seed, step))  # the fork took none of these
        got.append((common.tolist(), own.tolist()))
    return got


def _third_and_fourth(context: ParallelContext, seed: int, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, step, context.at.pipe, context.at.data, 0))
    torch.rand(3, generator=generator)
    return torch.rand(2, generator=generator)


def test_streams_by_coordinates(world: World) -> None:
    ranks = world.run(8, draws, (1, 0), (1, 1), (2, 0), (1, 0))
    for got in ranks:
        assert got[0] == got[3]  # whatever was drawn before
        for first, other in ((0, 1), (0, 2)):
            assert got[first][0] != got[other][0] and got[first][1] != got[other][1]
    common = [got[0][0] for got in ranks]
    for rank in range(0, 8, 2):  # tensor ranks 2i and 2i + 1 hold the same activations whole
        assert common[rank] == common[rank + 1]
    assert len({tuple(numbers) for numbers in common}) == 4
    assert len({tuple(got[0][1]) for got in ranks}) == 8


def test_the_tracker_saves_and_restores_for_recomputation() -> None:
    select_device()
    tracker = CpuRngTracker()
    assert not tracker.is_initialized()
    tracker.add(MODEL_PARALLEL, 7)
    torch.manual_seed(1)
    default = torch.get_rng_state()
    saved = tracker.get_states()
    with tracker.fork():
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), default)
    with tracker.fork():
        assert not torch.equal(torch.rand(4), first)  # the stream goes on
    tracker.set_states(saved)
    with tracker.fork():
        assert torch.equal(torch.rand(4), first)
    tracker.reset()
    assert not tracker.is_initialized()


def test_the_default_stream_comes_back_after_an_error() -> None:
    tracker = CpuRngTracker()
    tracker.add(MODEL_PARALLEL, 7)
    torch.manual_seed(1)
    default = torch.get_rng_state()
    try:
        with tracker.fork():
            torch.rand(4)
            raise ValueError
    except ValueError:
        pass
    assert torch.equal(torch.get_rng_state(), default)
