"""What the ranks of a run say to each other in one optimizer step: every collective and message, with its size.

Counted as this engine does it (Megatron-core's model and schedules, DeepSpeed's ZeRO), and held against what a run on
the CPU records: tests/megatron_nlg/planning/test_communication.py. Single numbers (losses, norms, token counts) are
left out: a few calls of 4 bytes a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.memory import ELEMENT_BYTES
from megatron_nlg.planning.parameters import rank_parameters

Group = Literal["tensor", "context", "copies", "pipeline", "ends"]
"""Whose ranks take part: one axis; `copies` are data × context peers, `ends` the first and the last stage."""
Operation = Literal["all_reduce", "all_gather", "reduce_scatter", "send"]
Phase = Literal["forward", "backward", "step"]
"""In the forward or the backward pass of each micro-batch, or once a step, after the last backward pass."""
FP32 = 4


@dataclass(frozen=True)
class Transfer:
    """Equal calls of one rank in one step."""

    group: Group
    operation: Operation
    what: str
    phase: Phase
    calls: int
    elements: int
    """Of the whole buffer: what is reduced, what is there after gathering, or the message."""
    element_bytes: int

    @property
    def bytes(self) -> int:
        """Size of one call's buffer."""
        return self.elements * self.element_bytes

    def sent(self, ranks: int) -> float:
        """Bytes that a rank sends in all calls, by algorithms that are optimal in volume (ring, recursive halving)."""
        return self.calls * self.bytes * share_sent(self.operation, ranks)


def share_sent(operation: Operation, ranks: int) -> float:
    """Part of a buffer that each of `ranks` ranks sends: an all-reduce is a reduce-scatter and an all-gather."""
    if operation == "send":
        return 1.0
    return (2 if operation == "all_reduce" else 1) * (ranks - 1) / ranks


def step_transfers(config: RunConfig, layout: Layout, micro_batches: int, pipe: int) -> list[Transfer]:
    """All transfers of a rank of stage `pipe` in a step of `micro_batches` per replica."""
    return [
        *_tensor(config, layout, micro_batches, pipe),
        *_context(config, layout, micro_batches),
        *_pipeline(config, layout, micro_batches, pipe),
        *_copies(config, layout, micro_batches, pipe),
    ]


def _tensor(config: RunConfig, layout: Layout, micro_batches: int, pipe: int) -> Iterator[Transfer]:
    """Megatron's two all-reduces a layer and pass; with sequence parallelism, reduce-scatters and all-gathers.

    The inputs of column-parallel matrices are gathered a second time for their gradients (Korthikanti et al. 2022).
    """
    if layout.tensor == 1:
        return
    model, parallel = config.model, config.parallel
    layers, last = model.num_layers // layout.pipeline, pipe == layout.pipeline - 1
    tokens = config.batch.micro * model.sequence_length // layout.context
    element = ELEMENT_BYTES[config.precision]

    def activations(operation: Operation, what: str, phase: Phase, calls: int) -> Transfer:
        return Transfer("tensor", operation, what, phase, calls * micro_batches, tokens * model.hidden_size, element)

    again = 2 * layers if parallel.recompute == "full" else 0
    if not parallel.sequence:
        yield activations("all_reduce", "attention and MLP", "forward", 2 * layers)
        yield activations("all_reduce", "attention and MLP", "backward", 2 * layers + again)
    else:
        for operation in ("all_gather", "reduce_scatter"):
            yield activations(operation, "attention and MLP", "forward", 2 * layers)
            yield activations(operation, "attention and MLP", "backward", 2 * layers + again)
        yield activations("all_gather", "inputs of matrices", "backward", 2 * layers)
        norms = _whole_in_layers(config) * layers + (_norm(config) if last else 0)
        yield Transfer("tensor", "all_reduce", "gradients of norms and biases", "step", 1, norms, FP32)
    if pipe == 0:
        cut = parallel.sequence and model.position_embedding == "rotary"
        yield activations("reduce_scatter" if cut else "all_reduce", "embedding", "forward", 1)
        if parallel.sequence:
            yield activations("all_gather", "embedding", "backward", 1)
    if last:
        if parallel.sequence:
            yield activations("all_gather", "output layer", "forward", 1)
            yield activations("all_gather", "output layer", "backward", 1)
        yield activations("reduce_scatter" if parallel.sequence else "all_reduce", "output layer", "backward", 1)
        yield Transfer("tensor", "all_reduce", "loss", "forward", 3 * micro_batches, tokens, FP32)


def _norm(config: RunConfig) -> int:
    return config.model.hidden_size * (1 if config.model.normalization == "rmsnorm" else 2)


def _whole_in_layers(config: RunConfig) -> int:
    """Parameters of a layer that every tensor rank holds whole: norms, and biases after row-parallel matrices."""
    return 2 * _norm(config) + (2 * config.model.hidden_size if config.model.bias else 0)


def _context(config: RunConfig, layout: Layout, micro_batches: int) -> Iterator[Transfer]:
    """Keys and values of the whole sequence are gathered in every layer, and their gradients scattered back."""
    if layout.context == 1:
        return
    model = config.model
    calls = model.num_layers // layout.pipeline * micro_batches
    elements = 2 * config.batch.micro * model.sequence_length * model.query_groups * model.head_size // layout.tensor
    element = ELEMENT_BYTES[config.precision]
    yield Transfer("context", "all_gather", "keys and values", "forward", calls, elements, element)
    if config.parallel.recompute != "none":
        yield Transfer("context", "all_gather", "keys and values", "backward", calls, elements, element)
    yield Transfer("context", "reduce_scatter", "their gradients", "backward", calls, elements, element)


def _pipeline(config: RunConfig, layout: Layout, micro_batches: int, pipe: int) -> Iterator[Transfer]:
    """Activations to the next chunk and gradients to the one before; the tied embedding's two gradients are summed."""
    if layout.pipeline == 1:
        return
    model, element = config.model, ELEMENT_BYTES[config.precision]
    cut = layout.tensor if config.parallel.sequence else 1
    message = config.batch.micro * model.sequence_length // layout.context * model.hidden_size // cut
    first, last = pipe == 0, pipe == layout.pipeline - 1
    forward = (layout.interleave - last) * micro_batches
    backward = (layout.interleave - first) * micro_batches
    if forward:
        yield Transfer("pipeline", "send", "activations", "forward", forward, message, element)
    if backward:
        yield Transfer("pipeline", "send", "gradients", "backward", backward, message, element)
    if model.tie_embeddings and (first or last):
        elements = model.padded_vocab_size * model.hidden_size // layout.tensor
        yield Transfer("ends", "all_reduce", "gradient of the tied embedding", "step", 1, elements, FP32)


def _copies(config: RunConfig, layout: Layout, micro_batches: int, pipe: int) -> Iterator[Transfer]:
    """ZeRO: gradients in fp32, weights in the run's precision.

    DeepSpeed 0.19.8 reduces by all-reduce in stages 1 (once a step) and 2 (after every micro-batch), by reduce-scatter
    in stage 3, which gathers weights for the forward and again for the backward pass of every micro-batch (those of
    small models stay, up to stage3_max_live_parameters).
    """
    if layout.copies == 1:
        return
    elements, element = rank_parameters(config, pipe), ELEMENT_BYTES[config.precision]
    stage = config.parallel.zero_stage
    if stage == 3:
        passes = 1 if elements <= LIVE_PARAMETERS else 2
        yield Transfer("copies", "all_gather", "weights", "forward", micro_batches, elements, element)
        if passes == 2:
            yield Transfer("copies", "all_gather", "weights", "backward", micro_batches, elements, element)
        yield Transfer("copies", "reduce_scatter", "gradients", "backward", micro_batches, elements, FP32)
        return
    phase: Phase = "backward" if stage == 2 else "step"
    yield Transfer("copies", "all_reduce", "gradients", phase, micro_batches if stage == 2 else 1, elements, FP32)
    yield Transfer("copies", "all_gather", "weights", "step", 1, elements, element)


LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's stage3_max_live_parameters: weights of that many parameters are kept from the forward pass on."""
