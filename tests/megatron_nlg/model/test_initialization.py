"""Initial weights depend on the seed and the global name only."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_nlg.model.initialization import standard_deviation
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine
from tests.tiny import tiny
from tests.world import World


def weights(*overrides: str) -> dict[tuple[str, int | None], tuple[int, torch.Tensor]]:
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    return {(i.name, i.cut): (context.at.tensor, i.parameter.detach().clone()) for i in engine.parameters()}


def whole(results: list[Any]) -> dict[str, torch.Tensor]:
    """Join the parts of all ranks by name."""
    parts: dict[tuple[str, int | None], dict[int, torch.Tensor]] = {}
    for result in results:
        for key, (rank, tensor) in result.items():
            parts.setdefault(key, {})[rank] = tensor
    return {
        name: by_rank[0] if cut is None else torch.cat([by_rank[r] for r in sorted(by_rank)], cut)
        for (name, cut), by_rank in parts.items()
    }


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (4, ["parallel.tensor=4"]),
        (8, ["parallel.tensor=2", "parallel.pipeline=2", "parallel.interleave=2"]),
        (3, ["parallel.tensor=3", "model.hidden_size=48", "model.num_attention_heads=3", "model.vocab_multiple=3"]),
    ],
)
def test_weights_are_bit_equal_on_every_layout(world: World, ranks: int, overrides: list[str]) -> None:
    model = [o for o in overrides if o.startswith("model.")]
    want = whole(world.run(1, weights, *model))
    got = whole(world.run(ranks, weights, *overrides))
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert torch.equal(got[name], tensor), name


def test_statistics_and_seed(world: World) -> None:
    first, other = whole(world.run(1, weights)), whole(world.run(1, weights, "seed=5"))
    model = tiny().model
    for name, tensor in first.items():
        assert bool(torch.isfinite(tensor).all())
        if tensor.dim() >= 2:
            want = standard_deviation(name, model)
            assert abs(float(tensor.std()) / want - 1) < 0.1, name  # 2,048 draws or more: 5 standard errors
            assert not torch.equal(tensor, other[name])
        else:
            assert bool((tensor == (0 if name.endswith("bias") else 1)).all())
    assert standard_deviation("decoder.layers.0.mlp.linear_fc2.weight", model) == pytest.approx(0.05 / 8**0.5)
