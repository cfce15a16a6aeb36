from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.base import build
from megatron_nlg.config.schema import Parallel, RunConfig
from megatron_nlg.planning.memory import (
    Precision,
    activation_bytes,
    chunks_in_flight,
    layer_activation_bytes,
    rank_memory,
)
from megatron_nlg.planning.parameters import rank_parameters
from tests.megatron_nlg.config.strategies import trees
from tests.tiny import tiny

TOKENS, BATCH, HIDDEN, HEADS = 32, 2, 64, 4
SBH = TOKENS * BATCH * HIDDEN


@pytest.mark.parametrize("tensor", [1, 2, 4])
@pytest.mark.parametrize("materialized", [False, True])
def test_activations_of_a_layer_are_the_published_formulas(tensor: int, materialized: bool) -> None:
    """Korthikanti et al. 2022, equations 1-6, in bf16 with dropout; 5as/h is the attention matrix."""
    matrix = 5 * HEADS * TOKENS / HIDDEN if materialized else 0

    def layer(*overrides: str) -> float:
        config = tiny("model.dropout=0.1", f"parallel.tensor={tensor}", *overrides)
        size = layer_activation_bytes(config.model, config.parallel, BATCH, "bf16", materialized_attention=materialized)
        return size / SBH

    assert layer() == 10 + 24 / tensor + matrix / tensor
    assert layer("parallel.recompute=selective") == 10 + 24 / tensor
    assert layer("parallel.recompute=full") == 2
    if tensor > 1:
        sequence = "parallel.sequence=true"
        assert layer(sequence) == (34 + matrix) / tensor
        assert layer(sequence, "parallel.recompute=selective") == 34 / tensor
        assert layer(sequence, "parallel.recompute=full") == 2 / tensor


@pytest.mark.parametrize(("precision", "expected"), [("bf16", 32), ("fp32", 64)])
def test_without_dropout_no_masks_and_in_fp32_twice_the_bytes(precision: Precision, expected: int) -> None:
    config = tiny()
    assert layer_activation_bytes(config.model, config.parallel, BATCH, precision) == expected * SBH


def live_chunks(parallel: Parallel, micro_batches: int, pipe: int) -> int:
    """Count them by walking Megatron-core's schedule: warm-up forwards, then one forward and one backward in turn."""
    stages, chunks = parallel.pipeline, parallel.interleave
    passes = micro_batches * chunks
    if chunks == 1:
        warm_up = min(passes, stages - pipe - 1)
    else:
        warm_up = min(passes, 2 * (stages - pipe - 1) + (chunks - 1) * stages)
    live = most = 0
    for step in range(passes):
        live += 1
        most = max(most, live)
        if step >= warm_up:
            live -= 1
    return most


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 40), st.data())
def test_chunks_in_flight(pipeline: int, interleave: int, micro_batches: int, data: st.DataObject) -> None:
    parallel = Parallel(pipeline=pipeline, interleave=interleave if pipeline > 1 else 1)
    pipe = data.draw(st.integers(0, pipeline - 1))
    if parallel.interleave > 1:
        micro_batches *= pipeline  # as Megatron-core asks for
    assert chunks_in_flight(parallel, micro_batches, pipe) == live_chunks(parallel, micro_batches, pipe)


def test_model_state_is_20_bytes_a_parameter_and_zero_cuts_it() -> None:
    for precision, weight, gradient in (("bf16", 2, 6), ("fp32", 4, 4)):
        for stage in (1, 2, 3):
            config = tiny(f"precision={precision}", f"parallel.zero_stage={stage}")
            count = rank_parameters(config, 0)
            for replicas in (1, 4):
                memory = rank_memory(config, replicas, 1, 0)
                assert memory.weights == count * weight / (replicas if stage == 3 else 1)
                assert memory.gradients == count * gradient / (replicas if stage >= 2 else 1)
                assert memory.optimizer == count * 12 / replicas
    assert (memory.total - memory.activations) * 4 == count * 20


def test_the_first_stage_keeps_most_and_the_last_one_the_logits() -> None:
    config = tiny("parallel.pipeline=4", "precision=bf16")
    layer = 32 * SBH
    kept = [activation_bytes(config, 8, pipe) for pipe in range(4)]
    logits = TOKENS * BATCH * 256 * (2 + 4)
    assert kept == [4 * layer, 3 * layer, 2 * layer, layer + 2 * SBH * 2 + logits]


@given(trees(), st.integers(1, 16), st.integers(1, 64))
def test_no_choice_that_saves_memory_costs_memory(tree: dict[str, Any], replicas: int, micro_batches: int) -> None:
    config = build(RunConfig, tree, "generated")
    for pipe in range(config.parallel.pipeline):
        memory = rank_memory(config, replicas, micro_batches, pipe)
        assert memory.total == memory.weights + memory.gradients + memory.optimizer + memory.activations
        assert memory.weights > 0
        more = rank_memory(config, replicas + 1, micro_batches, pipe)
        assert more.total <= memory.total
        fewer = rank_memory(config, replicas, 1, pipe)
        assert fewer.activations <= memory.activations
