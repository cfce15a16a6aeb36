"""One flipped bit in one rank's weights is found, and names that rank where there is a majority."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import NodeFaultError
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.integrity import checksums, compare_replicas
from tests.megatron_nlg.training.steps import batch
from tests.tiny import tiny
from tests.world import World


def flip(tensor: torch.Tensor, element: int, bit: int) -> None:
    kind = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
    bits = tensor.view(-1).view(kind)
    one = torch.tensor([1], dtype=torch.int64) << bit
    bits[element] ^= one.to(torch.int64).to(kind)[0]


@given(st.integers(1, 20_000), st.data(), st.sampled_from([torch.float32, torch.bfloat16]))
def test_every_bit_counts_and_so_does_its_place(size: int, data: st.DataObject, kind: torch.dtype) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(kind)
    other = tensor.clone()
    width = tensor.element_size() * 8 - 1
    flip(other, data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, width - 1)))
    assert not torch.equal(checksums([tensor]), checksums([other]))
    assert torch.equal(checksums([tensor]), checksums([tensor.clone()]))
    i, j = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    swapped = tensor.clone()
    swapped[i], swapped[j] = tensor[j], tensor[i]
    assert torch.equal(checksums([tensor]), checksums([swapped])) == torch.equal(tensor, swapped)


def damaged(name: str, rank: int, *overrides: str) -> str:
    """What is said after some steps, with a bit flipped at the end."""
    config = tiny(*overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    for step in range(2):
        engine.train_step(batch(config, context, step, config.batch.global_), 1e-3, step)
    compare_replicas(engine, 2)  # whole: nothing is said
    for item in engine.parameters():
        if item.name == name and context.rank == rank:
            flip(item.parameter.data, 5, 13)
    try:
        compare_replicas(engine, 2)
    except NodeFaultError as error:
        return str(error)
    return "equal"


@pytest.mark.parametrize(
    ("ranks", "rank", "name", "overrides", "said"),
    [
        (4, 2, "decoder.layers.1.mlp.linear_fc1.weight", "", "of rank 2 (node "),
        (3, 0, "decoder.layers.0.input_layernorm.weight", "precision=bf16 batch.global=12", "of rank 0 (node "),
        (2, 1, "embedding.word_embeddings.weight", "parallel.zero_stage=2", "differ, and no majority says whose"),
        (4, 3, "decoder.final_layernorm.bias", "parallel.tensor=4 parallel.sequence=true", "of rank 3 (node "),
        (8, 6, "decoder.layers.3.mlp.linear_fc2.weight", "parallel.tensor=2 parallel.pipeline=2", "rank 6 (node "),
        (2, 1, "", "parallel.zero_stage=3 parallel.tensor=2", "equal"),
    ],
)
def test_a_flipped_bit(world: World, ranks: int, rank: int, name: str, overrides: str, said: str) -> None:
    messages = world.run(ranks, damaged, name, rank, *overrides.split())
    assert len(set(messages)) == 1  # all ranks say the same
    assert said in messages[0] and name in messages[0]
