"""What the workers of the equality tests run: a few optimizer steps on synthetic batches."""

from __future__ import annotations

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.model.forward import MicroBatch
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.verification.measure import synthetic_batch


def batch(config: RunConfig, context: ParallelContext, step: int, size: int, masked: bool = False) -> list[MicroBatch]:
    """This rank's micro-batches of global batch `step`: a pure function of the step, whatever the layout."""
    return list(synthetic_batch(config, context, step, size, masked))


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
