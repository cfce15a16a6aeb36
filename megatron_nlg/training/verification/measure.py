"""One layout's training of a few steps: its losses, gradient norms, and how far its weights end from the reference's.

Batches are random tokens, low numbers more often than high ones, so that there is something to learn: a pure function
of the step, the same samples in every layout, under masks as uneven as can be: a wrong mean over tokens, which even
masks hide, moves the loss. The learning rate is the config's peak from the first step on, dropout is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor

from megatron_nlg.config.schema import Parallel, RunConfig
from megatron_nlg.model.forward import MicroBatch
from megatron_nlg.model.gpt import build_chunks
from megatron_nlg.model.naming import NamedParameter, named_parameters
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.checkpoint.format import Progress, model_identity
from megatron_nlg.training.checkpoint.store import Checkpoints
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.schedule import BatchSchedule

QKV_BIAS = "self_attention.linear_qkv.bias"


@dataclass(frozen=True)
class Curve:
    """What a layout's training gave."""

    losses: list[float]
    grad_norms: list[float]
    weights: dict[str, float] = field(default_factory=dict)
    """Kind of tensor -> largest difference from the reference (`weight_differences`); {} for the reference itself."""
    worst: dict[str, str] = field(default_factory=dict)
    """Kind of tensor -> name of the tensor that is farthest off."""


def measure(config: RunConfig, steps: int, folder: Path, is_reference: bool) -> dict[str, Any]:
    """Train `steps` steps as this process's rank; returns a Curve as a tree. Collective.

    The reference leaves its weights in `folder`, the others compare theirs with them.
    """
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    batches = BatchSchedule(config, context.layout.data)
    losses, norms, samples = [], [], 0
    for step in range(1, steps + 1):
        size = batches.global_batch_size(samples)
        result = engine.train_step(list(synthetic_batch(config, context, step, size)), config.optimizer.lr, step)
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
        samples += size
    checkpoints = Checkpoints(folder, config.checkpoint, context)
    weights: dict[str, tuple[float, str]] = {}
    if is_reference:
        checkpoints.save(engine, Progress(steps, samples, engine.skipped_steps, identity=model_identity(config)))
        checkpoints.wait()
    else:
        weights = _gathered(context, weight_differences(engine, checkpoints))
    checkpoints.close()
    worst = {kind: name for kind, (_, name) in weights.items()}
    return asdict(Curve(losses, norms, {kind: value for kind, (value, _) in weights.items()}, worst))


def synthetic_batch(
    config: RunConfig, context: ParallelContext, step: int, size: int, masked: bool = True
) -> Iterator[MicroBatch]:
    """This rank's micro-batches of a global batch of `size` random sequences; the same samples in every layout."""
    generator = torch.Generator().manual_seed(step)
    length = config.model.sequence_length
    tokens = (torch.rand(size, length + 1, generator=generator) ** 4 * config.model.vocab_size).long()
    following = tokens[:, 1:] % config.classes if config.classes else tokens[:, 1:]
    mask = torch.ones(size, length)
    if masked:  # the first half of the samples keep two tokens each, the others any number
        keep = torch.randint(1, length, (size,), generator=generator)
        keep[: size // 2] = 2
        mask = (torch.arange(length) < keep[:, None]).float()
    data, ranks = context.at.data, context.layout.data
    mine = slice(data * size // ranks, (data + 1) * size // ranks)
    micro = config.batch.micro
    parts = (torch.split(part[mine], micro) for part in (tokens[:, :-1], following, mask))
    for t, f, m in zip(*parts, strict=True):
        batch = {"tokens": t.contiguous(), "labels": f.contiguous(), "loss_mask": m}
        yield {key: value.to(context.device.torch) for key, value in batch.items()}


def weight_differences(engine: Engine, checkpoints: Checkpoints) -> dict[str, tuple[float, str]]:
    """Kind of tensor -> (‖weight − reference‖ / ‖reference − initial‖, tensor's name), the largest on this rank.

    Adam moves every weight by about the learning rate, also where the gradient is rounding noise: so the difference is
    measured by how far training has moved the tensor, and not by the tensor's own size. Biases of attention keys are
    left out: softmax does not see them, their gradient is zero in exact arithmetic, and all they do is noise.
    """
    config, context = engine.config, engine.context
    whole = config.parallel.model_copy(update={"zero_stage": 1, "offload_optimizer": False})
    plain = config.model_copy(update={"parallel": Parallel(**whole.model_dump()), "precision": "fp32"})
    chunks = build_chunks(plain, context, engine.kernels)
    initial = [item.parameter.detach().clone() for item in named_parameters(chunks)]
    checkpoints.load_weights(chunks, model_identity(config))
    found: dict[str, tuple[float, str]] = {}
    for mine, reference, start in zip(engine.parameters(), named_parameters(chunks), initial, strict=True):
        got = safe_get_full_fp32_param(mine.parameter).to(start.device, torch.float32).view(start.shape)
        want = reference.parameter.detach()
        keep = _without_key_biases(mine, config)
        moved = float((want - start)[keep].norm())
        off = float((got - want)[keep].norm())
        value = off / moved if moved else (0.0 if off == 0 else float("inf"))
        found[_kind(mine.name)] = max(found.get(_kind(mine.name), (0.0, mine.name)), (value, mine.name))
    return found


def _without_key_biases(item: NamedParameter, config: RunConfig) -> Tensor | slice:
    """What of a parameter's first dimension is compared."""
    if not item.name.endswith(QKV_BIAS):
        return slice(None)
    model = config.model
    group = torch.ones(model.num_attention_heads // model.query_groups + 2, model.head_size, dtype=torch.bool)
    group[-2] = False  # queries of the group, its key, its value
    return group.flatten().repeat(item.shape[0] // group.numel())


def _kind(name: str) -> str:
    if "embedding" in name or name.startswith("output_layer"):
        return "embeddings"
    if name.endswith("bias"):
        return "biases"
    return "norms" if "norm" in name else "matrices"


def _gathered(context: ParallelContext, mine: dict[str, tuple[float, str]]) -> dict[str, tuple[float, str]]:
    """The largest difference of each kind over all ranks."""
    largest: dict[str, tuple[float, str]] = {}
    for part in context.gather(mine):
        for kind, value in part.items():
            largest[kind] = max(largest.get(kind, value), value)
    return dict(sorted(largest.items()))
