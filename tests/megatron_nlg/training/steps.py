"""What the workers of the equality tests run: a few optimizer steps on synthetic batches."""

from __future__ import annotations

import torch

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.model.forward import MicroBatch
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine


def batch(config: RunConfig, context: ParallelContext, step: int, size: int, masked: bool = False) -> list[MicroBatch]:
    """This rank's micro-batches of global batch `step`: a pure function of the step, whatever the layout."""
    generator = torch.Generator().manual_seed(step)
    shape = (size, config.model.sequence_length + 1)
    tokens = torch.randint(0, config.model.vocab_size, shape, generator=generator)
    mask = torch.ones(size, config.model.sequence_length)
    if masked:  # uneven over samples: the first ones keep a few tokens only
        keep = torch.randint(1, config.model.sequence_length, (size,), generator=generator)
        keep[: size // 2] = 2
        mask = (torch.arange(config.model.sequence_length) < keep[:, None]).float()
    mine = slice(context.at.data * size // context.layout.data, (context.at.data + 1) * size // context.layout.data)
    return [
        {"tokens": t[:, :-1].contiguous(), "labels": t[:, 1:].contiguous(), "loss_mask": m}
        for t, m in zip(tokens[mine].split(config.batch.micro), mask[mine].split(config.batch.micro), strict=True)
    ]


def train(
    config: RunConfig, steps: int, sizes: list[int] | None = None, masked: bool = False
) -> tuple[list[float], list[float]]:
    """Losses and gradient norms of the first steps."""
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    losses, norms = [], []
    for step in range(steps):
        size = sizes[step] if sizes else config.batch.global_
        result = engine.train_step(batch(config, context, step, size, masked), config.optimizer.lr, step)
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
    engine.destroy()
    return losses, norms
