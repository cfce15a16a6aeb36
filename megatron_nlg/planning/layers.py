"""Seconds of a transformer's passes on one rank, apart from communication."""

from __future__ import annotations

from dataclasses import dataclass

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning.kernels import Accelerator
from megatron_nlg.planning.memory import ELEMENT_BYTES
from megatron_nlg.planning.stacks import Stack

LAYER_KERNELS = 16
"""Of a layer's forward pass: four products, attention, two norms, and what adds, activates and lays out."""
HEAD_KERNELS = 12
"""Of the final norm, the output layer and the loss."""
PASS_KERNELS = 26
"""A micro-batch's way through a chunk beside all that, in kernels that do nothing: schedule and bookkeeping.

Measured: of a model of two tiny layers on one rank, what its layers and its head do not explain, 79 in both directions.
"""


@dataclass(frozen=True)
class Passes:
    """Seconds of one micro-batch through something."""

    forward: float
    backward: float
    """With what is recomputed."""

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, factor: float) -> Passes:
        return Passes(self.forward * factor, self.backward * factor)


def layer_passes(config: RunConfig, accelerator: Accelerator, stack: Stack) -> Passes:
    """One transformer layer."""
    matrices, attention = _matrices(config, accelerator), _attention(config, accelerator, stack)
    rest = accelerator.memory(_layer_bytes(config, stack)) + accelerator.starts(LAYER_KERNELS)
    rest += accelerator.functions(_tokens(config) * config.model.ffn_size // config.parallel.tensor)
    forward = matrices + attention + rest
    again = {"none": 0.0, "selective": attention, "full": forward}[config.parallel.recompute]
    # The backward pass has two products for each of the forward's, and reads and writes about twice as much.
    return Passes(forward, 2 * forward + again) * stack.kernel_factor


def _tokens(config: RunConfig) -> int:
    return config.batch.micro * config.model.sequence_length // config.parallel.context


def _matrices(config: RunConfig, accelerator: Accelerator) -> float:
    """Query, key and value; their projection; the MLP's two (gated: three)."""
    model, tensor, tokens = config.model, config.parallel.tensor, _tokens(config)
    heads = model.hidden_size + 2 * model.query_groups * model.head_size
    ffn = model.ffn_size // tensor
    return (
        accelerator.gemm(tokens, heads // tensor, model.hidden_size)
        + accelerator.gemm(tokens, model.hidden_size, model.hidden_size // tensor)
        + accelerator.gemm(tokens, (2 if model.gated else 1) * ffn, model.hidden_size)
        + accelerator.gemm(tokens, model.hidden_size, ffn)
    )


def _attention(config: RunConfig, accelerator: Accelerator, stack: Stack) -> float:
    """Scores and weighted values; materialised, all pairs and their softmax through memory, else half of the pairs."""
    model, length = config.model, config.model.sequence_length
    heads = config.batch.micro * model.num_attention_heads // config.parallel.tensor
    queries = length // config.parallel.context
    products = accelerator.gemm(queries, length, model.head_size, heads) + accelerator.gemm(
        queries, model.head_size, length, heads
    )
    if not stack.materialized_attention:
        return products / 2 / accelerator.compute.attention_efficiency
    element = ELEMENT_BYTES[config.precision]
    # Scale, mask and softmax in one kernel read and write; dropout reads, writes, and writes a mask of a byte.
    through_memory = 2 * element + (2 * element + 1 if _dropout(config, stack) else 0)
    # Its products' own reading and writing of the scores is in their time.
    return products + accelerator.memory(through_memory * heads * queries * length)


def _dropout(config: RunConfig, stack: Stack) -> float:
    return config.model.dropout if stack.dropout is None else stack.dropout


def _layer_bytes(config: RunConfig, stack: Stack) -> float:
    """Read and written by a layer's element-wise kernels in the forward pass."""
    model, parallel, tokens = config.model, config.parallel, _tokens(config)
    element = ELEMENT_BYTES[config.precision]
    mask = 1 if _dropout(config, stack) else 0
    # Two norms read and write; two sums of bias, dropout and residual read two, write one and a mask.
    along_sequence = tokens * model.hidden_size * (2 * 2 * element + 2 * (3 * element + mask))
    # Bias and activation of the MLP read and write; query, key and value get their bias and are laid out by heads.
    heads = model.hidden_size + 2 * model.query_groups * model.head_size
    mlp = (3 if model.gated else 2) * model.ffn_size * element
    along_tensor = tokens * (mlp + 2 * heads * element) / parallel.tensor
    return along_sequence / (parallel.tensor if parallel.sequence else 1) + along_tensor


def head_passes(config: RunConfig, accelerator: Accelerator, stack: Stack) -> Passes:
    """Final norm, output layer and loss: on the last stage."""
    model, tokens = config.model, _tokens(config)
    columns = model.padded_vocab_size // config.parallel.tensor
    product = accelerator.gemm(tokens, columns, model.hidden_size)
    forward, backward = (accelerator.memory(tokens * columns * moved) for moved in stack.loss_bytes)
    forward, backward = (part + accelerator.functions(tokens * columns) for part in (forward, backward))
    norm = accelerator.memory(2 * ELEMENT_BYTES[config.precision] * tokens * model.hidden_size)
    norm += accelerator.starts(HEAD_KERNELS)
    return Passes(product + forward + norm, 2 * (product + norm) + backward) * stack.kernel_factor


def pass_starts(accelerator: Accelerator, stack: Stack) -> Passes:
    """What every chunk's pass costs before its first kernel."""
    seconds = accelerator.starts(PASS_KERNELS) * stack.kernel_factor
    return Passes(seconds, 2 * seconds)


def embedding_passes(config: RunConfig, accelerator: Accelerator, stack: Stack) -> Passes:
    """Words and positions looked up and added; their gradients scattered: on the first stage."""
    element = ELEMENT_BYTES[config.precision]
    moved = accelerator.memory(4 * element * _tokens(config) * config.model.hidden_size)
    return Passes(moved, 2 * moved) * stack.kernel_factor
