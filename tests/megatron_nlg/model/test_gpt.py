"""The instantiated model: its size, its padding, its names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.planning.memory import ELEMENT_BYTES
from megatron_nlg.planning.parameters import rank_parameters, total_parameters
from megatron_nlg.training.engine import Engine
from tests.megatron_nlg.training.steps import batch
from tests.tiny import LLAMA, tiny
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
        (2, f"parallel.tensor=2 {LLAMA}"),
        (1, "model.activation=geglu"),
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


def rank_bytes(*overrides: str) -> tuple[int, int]:
    """This rank's stage, and the bytes of the weights it holds."""
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    return context.at.pipe, sum(i.parameter.numel() * i.parameter.element_size() for i in engine.parameters())


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (1, "precision=bf16"),
        (8, "parallel.tensor=2 parallel.pipeline=2 parallel.interleave=2"),
        (4, "parallel.tensor=4 precision=bf16 model.tie_embeddings=false model.ffn_hidden_size=96"),
        (4, "parallel.pipeline=4 model.tie_embeddings=false"),
        (2, f"parallel.tensor=2 precision=fp16 {LLAMA}"),
    ],
)
def test_a_rank_holds_the_bytes_that_planning_counts(world: World, ranks: int, overrides: str) -> None:
    config = tiny(*overrides.split())
    for pipe, held in world.run(ranks, rank_bytes, *overrides.split()):
        assert held == rank_parameters(config, pipe) * ELEMENT_BYTES[config.precision]


def names(*overrides: str) -> dict[str, tuple[int | None, torch.Size]]:
    """Global name -> dimension that is cut, and whole shape, of this rank's parameters."""
    config = tiny(*overrides)
    engine = Engine(config, ParallelContext.create(config))
    return {i.name: (i.cut, i.whole_shape(config.parallel.tensor)) for i in engine.parameters()}


def test_names_do_not_depend_on_the_layout(world: World) -> None:
    [want] = world.run(1, names)
    assert {name.split(".")[2] for name in want if name.startswith("decoder.layers.")} == {"0", "1", "2", "3"}
    assert "output_layer.weight" not in want  # tied
    for overrides in ("parallel.tensor=2 parallel.pipeline=2", "parallel.pipeline=2 parallel.interleave=2"):
        got: dict[str, tuple[int | None, torch.Size]] = {}
        for part in world.run(4 if "tensor" in overrides else 2, names, *overrides.split()):
            for name, value in part.items():
                assert got.setdefault(name, value) == value  # the tied embedding is on two stages, under one name
        assert got == want
    [untied] = world.run(1, names, "model.tie_embeddings=false")
    assert untied.keys() - want.keys() == {"output_layer.weight"}


def padded_share(*overrides: str) -> tuple[float, float]:
    """Probability of all padded rows, and of the rest, with an embedding that would favour the padding."""
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    for item in engine.parameters():
        if item.name == "embedding.word_embeddings.weight":
            first = context.at.tensor * item.parameter.shape[0]
            rows = torch.arange(first, first + item.parameter.shape[0])
            item.parameter.data[rows >= config.model.vocab_size] = 100.0
    out = engine.logits(torch.arange(2 * 8).view(2, 8) % 50)
    shares = torch.softmax(out, -1).split([config.model.vocab_size, out.shape[-1] - config.model.vocab_size], -1)
    return float(shares[1].sum()), float(shares[0].sum())


@pytest.mark.parametrize(("ranks", "overrides"), [(1, ""), (4, "parallel.tensor=4"), (2, "parallel.pipeline=2")])
def test_padding_has_no_probability(world: World, ranks: int, overrides: str) -> None:
    for padded, rest in world.run(ranks, padded_share, *overrides.split()):
        assert padded == 0 and rest == pytest.approx(2 * 8)
