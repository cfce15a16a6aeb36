"""A run's blocks against transformers' hidden states and against hooks, in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.analysis.blocks import RunBlocks
from megatron_nlg.analysis.representations import Input, Layers, collect
from megatron_nlg.config.errors import ConfigError
from megatron_nlg.config.validate import load_config
from megatron_nlg.generation.weights import Weights
from megatron_nlg.model.forward import logits
from megatron_nlg.model.gpt import build_chunks
from megatron_nlg.model.kernels import choose
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.rng import seed_step
from megatron_nlg.training.checkpoint.format import Progress
from tests.megatron_nlg.analysis.models import TEXTS, write_gpt2
from tests.tiny import LLAMA, tiny
from tests.world import World

MARKS = {0: [(2, 5)], 2: [(0, 2), (10, 29)]}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("blocks")
    return write_gpt2(folder), folder / "run"


def inputs_of(model: RunBlocks) -> list[Input]:
    found = [model.prepare(text, ("mean", "last"), MARKS.get(number, ())) for number, text in enumerate(TEXTS)]
    return [each for each in found if each]


def read(run: Path, overrides: list[str], batch_tokens: int) -> tuple[list[Input], Layers | None]:
    model = RunBlocks.of(load_config(run / "config.yaml", overrides), run)
    inputs = inputs_of(model)
    return inputs, collect(model, inputs, batch_tokens=batch_tokens)


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (1, ""),
        (2, "parallel.tensor=2 parallel.sequence=true"),
        (2, "parallel.pipeline=2 parallel.interleave=2 batch.global=2"),
        (4, "parallel.pipeline=2 batch.global=2"),
    ],
)
def test_blocks_are_the_hidden_states_of_transformers(
    world: World, gpt2: tuple[Any, Path], ranks: int, overrides: str
) -> None:
    theirs, run = gpt2
    (inputs, values), *others = world.run(ranks, read, run, overrides.split(), 24)
    assert all(other is None for _, other in others)
    want = []
    for each in inputs:
        with torch.no_grad():
            hidden = torch.cat(theirs(torch.tensor([each.tokens]), output_hidden_states=True).hidden_states)
        want += [hidden[:, begin:end].mean(dim=1).numpy() for begin, end in each.spans]
    assert values.shape == (5, 2 * len(TEXTS) + 3, 32)
    np.testing.assert_allclose(values, np.stack(want, axis=1), rtol=1e-4, atol=1e-4)


def against_hooks(overrides: list[str]) -> tuple[Layers | None, list[Any]]:
    """Means by RunBlocks, and each block's output in a plain pass through the whole model."""
    config = tiny(*LLAMA.split(), *overrides)
    context = ParallelContext.create(config)
    seed_step(config.seed, 0, context.at, context.device)
    chunks = build_chunks(config, context, choose(context.device, config.parallel))
    model = RunBlocks(config, CharacterTokenizer("ab"), Weights(context, chunks, Progress(), []))
    inputs = [Input(list(range(10, 27)), [(0, 17)]), Input([7], [(0, 1)])]
    values = collect(model, inputs)
    if context.layout.world_size > 1:
        return values, []
    kept: list[Any] = []
    modules = [chunks[0].embedding, *chunks[0].decoder.layers[:-1], chunks[0].decoder.final_layernorm]
    for module in modules:
        module.register_forward_hook(lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out))
    for each in inputs:
        logits(chunks, context, torch.tensor([each.tokens]))
    return values, [layer.mean(dim=0)[0].numpy() for layer in kept]


def test_blocks_are_what_hooks_see(world: World) -> None:
    """Of Llama's shape: rotary positions, grouped queries, RMSNorm."""
    [(values, seen)] = world.run(1, against_hooks, [])
    want = np.stack([seen[:5], seen[5:]], axis=1)
    np.testing.assert_allclose(values, want, rtol=1e-5, atol=1e-5)
    (cut, _), (none, _) = world.run(2, against_hooks, ["parallel.tensor=2", "parallel.sequence=true"])
    np.testing.assert_allclose(cut, want, rtol=1e-4, atol=1e-4)
    assert none is None


def test_texts_cut_over_ranks_are_refused(gpt2: tuple[Any, Path]) -> None:
    config = tiny().model_copy(update={"parallel": tiny().parallel.model_copy(update={"context": 2})})
    with pytest.raises(ConfigError, match=r"parallel.context: 2: analysis reads whole texts; leave it out"):
        RunBlocks(config, CharacterTokenizer("ab"), None)  # type: ignore[arg-type]
