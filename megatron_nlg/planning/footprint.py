"""All memory of one rank at its peak: model state and activations (`memory.py`), and what is seldom counted.

Buffers of ZeRO and of the pipeline, gradients of activations while a layer's are made, what the allocator can't use,
and what the runtime holds before the first tensor is made. The figures that no formula gives are named here, with
their source.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning.communication import LIVE_PARAMETERS
from megatron_nlg.planning.memory import (
    ELEMENT_BYTES,
    GRADIENT_BYTES,
    OPTIMIZER_BYTES,
    activation_bytes,
)
from megatron_nlg.planning.parameters import rank_parameters
from megatron_nlg.planning.stacks import STACKS, Name, Stack

GIB = 2**30
BUCKET = 500_000_000
"""Elements that ZeRO reduces at once: DeepSpeed's reduce_bucket_size, as `training/engine.py` sets it."""


@dataclass(frozen=True)
class Device:
    """What memory costs beside tensors."""

    runtime: float
    """Bytes that a process holds on the device before any tensor."""
    group: float
    """Bytes of a process group of more than one rank."""
    fragmentation: float
    """Share of what comes and goes in a step that the allocator holds besides."""
    lazy: bool
    """Whether memory counts only when it is written."""


CUDA = Device(runtime=0.5 * GIB, group=0.25 * GIB, fragmentation=0.08, lazy=False)
"""Estimates of data-centre GPUs: a context with lazily loaded kernels and cuBLAS's workspaces takes 0.4-0.6 GiB; NCCL
holds 4 MiB (NCCL_BUFFSIZE, its documentation's default) a channel, direction and peer, some 32 channels within a node;
PyTorch's caching allocator rounds to 2 MiB blocks and can't join segments (its CUDA notes)."""
CPU = Device(runtime=0.0, group=0.0, fragmentation=0.08, lazy=True)
"""Of memory above what a process holds after its imports."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a rank at its peak, by part."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float
    """Of communication: ZeRO's buckets, messages of the pipeline, gathered sequences."""
    temporary: float
    """Gradients of activations, and of the logits."""
    fragmentation: float
    runtime: float
    """Context, libraries and their channels."""

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return float(sum(asdict(self).values()))


def device_of(cluster: Cluster) -> Device:
    """A GPU's, or that of a machine which trains on its CPU."""
    return CUDA if cluster.gpus_per_node else CPU


def footprint(
    config: RunConfig, data_parallel: int, micro_batches: int, pipe: int, device: Device, stack: Name = "this"
) -> Footprint:
    """Of a rank of stage `pipe`, with `data_parallel` replicas that take `micro_batches` each a step."""
    software = STACKS[stack]
    if software.dropout is not None and software.dropout != config.model.dropout:
        config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": software.dropout})})
    weights, gradients, optimizer = _state(config, data_parallel, pipe, software)
    activations = activation_bytes(config, micro_batches, pipe, materialized_attention=software.materialized_attention)
    temporary = _temporary(config, pipe)
    bucket = _bucket(config, data_parallel, pipe)
    if device.lazy and config.parallel.zero_stage == 1:  # it fills up while activations go
        bucket = max(0.0, bucket - activations - temporary)
    groups = sum(
        size > 1
        for size in (
            config.parallel.tensor,
            config.parallel.pipeline,
            config.parallel.context,
            data_parallel * config.parallel.context,
        )
    )
    return Footprint(
        weights,
        gradients,
        optimizer,
        activations,
        bucket + _buffers(config),
        temporary,
        device.fragmentation * (activations + temporary),
        device.runtime + groups * device.group,
    )


def _state(config: RunConfig, data_parallel: int, pipe: int, stack: Stack) -> tuple[float, float, float]:
    """Bytes of weights, gradients and optimizer state."""
    parameters = rank_parameters(config, pipe)
    parallel, precision = config.parallel, config.precision
    copies = data_parallel * parallel.context
    zero = parallel.zero_stage if stack.weights_gathered else 0
    gradient = GRADIENT_BYTES[precision]
    if precision == "bf16" and zero == 1 and stack is STACKS["this"]:
        gradient = 4  # each gradient is added to the fp32 sums as soon as it is there, and freed
    elif not stack.weights_gathered and precision != "fp32":
        gradient = stack.gradient_bytes  # one contiguous buffer in 16 bits
    on_device = 0 if parallel.offload_optimizer else OPTIMIZER_BYTES
    return (
        parameters * ELEMENT_BYTES[precision] / (copies if zero >= 3 else 1),
        parameters * gradient / (copies if zero >= 2 else 1),
        parameters * on_device / (copies if zero >= 1 else 1),
    )


def _bucket(config: RunConfig, data_parallel: int, pipe: int) -> float:
    """Bytes in which ZeRO reduces gradients, and of stage 3's gathered weights; bf16's stage 1 reduces in place."""
    parallel, parameters = config.parallel, rank_parameters(config, pipe)
    if data_parallel * parallel.context == 1 or (config.precision == "bf16" and parallel.zero_stage == 1):
        return 0.0
    bucket = min(parameters, BUCKET) * 4.0
    if parallel.zero_stage < 3:
        return bucket
    gathered = min(parameters, LIVE_PARAMETERS) * ELEMENT_BYTES[config.precision]
    return gathered + bucket + bucket / (data_parallel * parallel.context)  # the last is what a bucket is scattered to


def _buffers(config: RunConfig) -> float:
    """Bytes of what tensor, context and pipeline ranks exchange."""
    parallel, element = config.parallel, ELEMENT_BYTES[config.precision]
    size, total = _hidden_bytes(config), 0.0
    if parallel.pipeline > 1:  # one message on its way in, one on its way out
        total += 2 * size / (parallel.tensor if parallel.sequence else 1)
    if parallel.sequence:  # the whole sequence, gathered before a matrix
        total += size
    if parallel.context > 1:  # keys and values of the whole sequence
        tokens = config.batch.micro * config.model.sequence_length
        total += 2 * tokens * config.model.query_groups * config.model.head_size * element / parallel.tensor
    return total


def _temporary(config: RunConfig, pipe: int) -> float:
    """Bytes of gradients that are made at once: of a layer's activations and largest matrix, or of the output layer.

    The loss works in place on fp32 logits, and its gradient takes their place.
    """
    model, parallel, element = config.model, config.parallel, ELEMENT_BYTES[config.precision]
    tokens = config.batch.micro * model.sequence_length / parallel.context
    flows = 2 * tokens * model.ffn_size / parallel.tensor * element + 2 * _hidden_bytes(config)
    layer = flows + model.ffn_size * model.hidden_size / parallel.tensor * element
    embedding = model.padded_vocab_size * model.hidden_size / parallel.tensor * element + _hidden_bytes(config)
    if pipe == parallel.pipeline - 1:
        logits = tokens * model.padded_vocab_size / parallel.tensor
        return max(layer, embedding + (0.0 if config.precision == "fp32" else logits * element))
    return max(layer, embedding) if pipe == 0 else layer


def _hidden_bytes(config: RunConfig) -> float:
    """Of one micro-batch's activations between layers, whole."""
    tokens = config.batch.micro * config.model.sequence_length / config.parallel.context
    return tokens * config.model.hidden_size * ELEMENT_BYTES[config.precision]
