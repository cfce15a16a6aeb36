"""The instantiated model: its size, its padding, its names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.planning.parameters import total_parameters
from megatron_nlg.training.engine import Engine
from tests.megatron_nlg.training.steps import batch
from tests.tiny import tiny
from tests.world import World


def sizes(*overrides: str) -> dict[str, int]:
    """Elements of this rank's parameters, whole matrices counted whole."""
    config = tiny(*overrides)
    engine = Engine(config, ParallelContext.create(config))
    return {i.name: i.whole_shape(config.parallel.tensor).numel() for i in engine.parameters()}


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (1, ""),
        (1, "model.tie_embeddings=false"),
        (4, "parallel.tensor=2 parallel.pipeline=2"),
        (2, "parallel.pipeline=2 model.tie_embeddings=false model.ffn_hidden_size=96"),
        (2, "parallel.pipeline=2 parallel.interleave=2 model.vocab_multiple=100"),
    ],
)
def test_parameters_are_what_planning_counts(world: World, ranks: int, overrides: str) -> None:
    by_name: dict[str, int] = {}
    for part in world.run(ranks, sizes, *overrides.split()):
        by_name |= part
    assert sum(by_name.values()) == total_parameters(tiny(*overrides.split()).model)


def padded_rows(*overrides: str) -> tuple[Any, Any, int]:
    """Embedding rows of this rank before and after two steps without weight decay, and the first row's number."""
    config = tiny("optimizer.weight_decay=0.0", *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    weight = next(i.parameter for i in engine.parameters() if i.name == "embedding.word_embeddings.weight")
    before = weight.detach().clone()
    for step in range(2):
        engine.train_step(batch(config, context, step, config.batch.global_), 1e-2, step)
    return before, weight.detach().clone(), context.at.tensor * weight.shape[0]


@pytest.mark.parametrize(("ranks", "overrides"), [(1, ""), (2, "parallel.tensor=2"), (4, "parallel.tensor=4")])
def test_padding_gets_no_gradient(world: World, ranks: int, overrides: str) -> None:
    for before, after, first in world.run(ranks, padded_rows, *overrides.split()):
        rows = torch.arange(first, first + len(before))
        moved = (before != after).any(dim=1)
        assert not bool(moved[rows >= 250].any())
        assert bool(moved[rows < 250].all())
