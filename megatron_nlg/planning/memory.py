"""Memory of one rank while it trains: weights, gradients, optimizer state and activations, by pipeline stage.

Model state is counted as DeepSpeed keeps it; activations by the formulas of Korthikanti et al. 2022 (arXiv 2205.05198,
equations 1-6), taken apart into elements so that they hold for fp32 and for any MLP width. The attention matrix is
never materialised (scaled-dot-product attention), so their 5as/h terms are absent unless asked for. The rest of a
rank's memory is in `footprint.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from megatron_nlg.config.schema import Model, Parallel, RunConfig
from megatron_nlg.planning.parameters import rank_parameters

ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a weight or an activation."""
GRADIENT_BYTES = {"fp32": 4, "bf16": 2 + 4, "fp16": 2 + 4}
"""Bytes of a gradient: with 16 bits, what the backward pass makes and the fp32 sum over micro-batches."""
OPTIMIZER_BYTES = 4 + 4 + 4
"""fp32 master weight and Adam's two moments; DeepSpeed keeps the master weight under fp32 too."""

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class RankMemory:
    """Bytes on one rank of a pipeline stage."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of the four."""
        return self.weights + self.gradients + self.optimizer + self.activations


def rank_memory(config: RunConfig, data_parallel: int, micro_batches: int, pipe: int) -> RankMemory:
    """Bytes on a rank of stage `pipe`, with `data_parallel` replicas that take `micro_batches` each a step."""
    parameters = rank_parameters(config, pipe)
    stage, copies = config.parallel.zero_stage, data_parallel * config.parallel.context
    on_device = 0 if config.parallel.offload_optimizer else parameters
    return RankMemory(
        weights=_share(parameters * ELEMENT_BYTES[config.precision], copies if stage >= 3 else 1),
        gradients=_share(parameters * GRADIENT_BYTES[config.precision], copies if stage >= 2 else 1),
        optimizer=_share(on_device * OPTIMIZER_BYTES, copies),
        activations=activation_bytes(config, micro_batches, pipe),
    )


def activation_bytes(config: RunConfig, micro_batches: int, pipe: int, *, materialized_attention: bool = False) -> int:
    """Peak bytes of activations on a rank of stage `pipe`: what its micro-batches in flight keep, and the ends."""
    model, parallel, micro = config.model, config.parallel, config.batch.micro
    element = ELEMENT_BYTES[config.precision]
    matrix = materialized_attention
    kept_a_layer = layer_activation_bytes(model, parallel, micro, config.precision, materialized_attention=matrix)
    layers_a_chunk = model.num_layers // (parallel.pipeline * parallel.interleave)
    chunks = chunks_in_flight(parallel, micro_batches, pipe)
    total = chunks * layers_a_chunk * kept_a_layer
    if parallel.recompute == "full":  # the layer at hand is whole again while its gradients are made
        total += layer_activation_bytes(
            model, parallel, micro, config.precision, recompute="none", materialized_attention=matrix
        )
    tokens = micro * model.sequence_length // parallel.context
    cut = parallel.tensor if parallel.sequence else 1
    if pipe == 0 and model.dropout:  # the mask of the embedding's dropout, for every micro-batch in flight
        total += -(-chunks // parallel.interleave) * tokens * model.hidden_size // cut
    if pipe == parallel.pipeline - 1:
        # One micro-batch at a time: inputs of the final norm and of the output layer, logits, and their fp32 softmax.
        total += 2 * tokens * model.hidden_size * element // cut
        logits = tokens * model.padded_vocab_size // parallel.tensor
        total += logits * (element + (0 if config.precision == "fp32" else 4))
    return total


def chunks_in_flight(parallel: Parallel, micro_batches: int, pipe: int) -> int:
    """Forward passes of a chunk whose backward passes are still to come, at most (Narayanan et al. 2021, section 2.2).

    1F1B: stage p holds pipeline − p micro-batches. Interleaved: Megatron-core's warm-up, plus the one at hand.
    """
    if parallel.interleave == 1:
        return min(micro_batches, parallel.pipeline - pipe)
    warm_up = 2 * (parallel.pipeline - pipe - 1) + (parallel.interleave - 1) * parallel.pipeline
    return min(micro_batches * parallel.interleave, warm_up + 1)


def layer_activation_bytes(
    model: Model,
    parallel: Parallel,
    micro_batch: int,
    precision: Precision,
    *,
    recompute: Literal["none", "selective", "full"] | None = None,
    materialized_attention: bool = False,
) -> int:
    """Bytes that one micro-batch keeps of one layer on a rank, until its backward pass.

    `recompute` replaces the config's. With `materialized_attention` the attention matrix is kept (softmax, dropout
    mask and output: the formulas' 5as/h), unless it is recomputed. In bf16 with dropout and an MLP of 4h this is
    sbh(10 + 24/t + 5as/(ht)), (sbh/t)(34 + 5as/h) with sequence parallelism, and 2sbh when all is recomputed.
    """
    recompute = recompute or parallel.recompute
    element = ELEMENT_BYTES[precision]
    tokens = micro_batch * model.sequence_length // parallel.context
    tensor, hidden = parallel.tensor, model.hidden_size
    sequence = tensor if parallel.sequence else 1
    if recompute == "full":
        return tokens * hidden * element // sequence
    masks = 2 if model.dropout else 0
    # Inputs of two norms, of the QKV matrix and of the MLP; two dropout masks of a byte.
    along_sequence = tokens * hidden * (4 * element + masks) // sequence
    # Query and the projection's input; keys and values of the whole sequence; the MLP's hidden layer before and after
    # its activation (gated: both matrices' outputs, the activated gate, and their product).
    keys = 2 * model.query_groups * model.head_size * parallel.context
    mlp = (4 if model.gated else 2) * model.ffn_size
    along_tensor = tokens * (2 * hidden + keys + mlp) * element // tensor
    attention = 0
    if materialized_attention and recompute == "none":
        scores = model.num_attention_heads * tokens * model.sequence_length // tensor
        attention = scores * (2 * element + 1 if model.dropout else element)  # softmax; dropout's output and mask
    return along_sequence + along_tensor + attention


def _share(count: int, ranks: int) -> int:
    """A rank's part of something cut over `ranks`, rounded up."""
    return -(-count // ranks)
