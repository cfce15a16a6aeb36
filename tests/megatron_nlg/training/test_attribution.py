"""A gradient made infinite at one parameter of one rank is found there, and looking for it changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.attribution import first_non_finite
from megatron_nlg.training.engine import Engine
from tests.megatron_nlg.training.steps import batch
from tests.tiny import tiny
from tests.world import World


def spoil(name: str, rank: int, micro_batch: int, *overrides: str) -> tuple[str | None, dict[str, Any], bool]:
    """Whether the step was skipped, the finding, and whether training then goes on as if nothing had been."""
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    calls = 0

    def infinite(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return gradient * torch.inf if (calls - 1) % 4 == micro_batch else gradient

    data = [batch(config, context, step, 16) for step in range(2)]
    hooks = [
        i.parameter.register_hook(infinite) for i in engine.parameters() if i.name == name and context.rank == rank
    ]
    skipped = engine.train_step(data[0], 1e-3, 0).skipped
    calls = 0
    found = first_non_finite(engine, data[0], 0) if name else {}
    for hook in hooks:
        hook.remove()
    before = engine.skipped_steps
    engine.repeat(data[0], 0)  # must leave no gradient behind
    got = engine.train_step(data[1], 1e-3, 1)
    fresh = Engine(config, context)
    want = fresh.train_step(data[1], 1e-3, 1)
    same = torch.equal(got.loss, want.loss) and float(got.grad_norm) == float(want.grad_norm)
    pairs = zip(engine.parameters(), fresh.parameters(), strict=True)
    same = same and all(torch.equal(a.parameter, b.parameter) for a, b in pairs)
    return skipped, found, same and engine.skipped_steps == before


@pytest.mark.parametrize(
    ("ranks", "rank", "name", "overrides"),
    [
        (1, 0, "embedding.position_embeddings.weight", "batch.micro=4"),
        (4, 3, "decoder.layers.2.mlp.linear_fc1.weight", "parallel.tensor=2 parallel.pipeline=2 batch.micro=4"),
        (2, 1, "decoder.layers.1.self_attention.linear_qkv.weight", "precision=bf16"),
        (2, 1, "decoder.layers.3.input_layernorm.bias", "parallel.zero_stage=2"),
        (2, 0, "decoder.final_layernorm.weight", "parallel.zero_stage=3"),
    ],
)
def test_the_parameter_and_rank_are_named(world: World, ranks: int, rank: int, name: str, overrides: str) -> None:
    for skipped, found, same in world.run(ranks, spoil, name, rank, 2, *overrides.split()):
        assert skipped == "the gradient is not finite"
        assert (found["parameter"], found["rank"], found["micro_batch"]) == (name, rank, 2)
        assert found["weight_is_finite"]
        assert same


def not_reproduced() -> dict[str, Any]:
    config = tiny()
    context = ParallelContext.create(config)
    return first_non_finite(Engine(config, context), batch(config, context, 0, 16), 0)


def test_what_does_not_happen_again_is_said_to_be_so(world: World) -> None:
    assert world.run(2, not_reproduced) == [{"reproduced": False}] * 2
