"""A run's model without its optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from megatron_nlg.config.schema import Checkpoint, KernelSettings, RunConfig
from megatron_nlg.model.gpt import GPT, build_chunks
from megatron_nlg.model.kernels import choose
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.rng import seed_step
from megatron_nlg.training.checkpoint.format import Progress, model_identity
from megatron_nlg.training.checkpoint.store import Checkpoints


@dataclass(frozen=True)
class Weights:
    """This rank's chunks with the weights of a checkpoint, in their evaluation mode."""

    context: ParallelContext
    chunks: list[GPT]
    progress: Progress
    damaged: list[str]
    """Newer checkpoints that could not be used, and why."""


def load_weights(config: RunConfig, run: Path, identity: dict[str, Any], step: int | None = None) -> Weights:
    """The newest whole checkpoint, or that of `step`, in the layout of `config`. Collective.

    Raises InputError where there is none, or where it is of another model or differs in a setting of `identity`.
    """
    context = ParallelContext.create(config)
    seed_step(config.seed, 0, context.at, context.device)
    # Passes have lengths of their own, and caches live in this project's own attention.
    plain = KernelSettings(compiled=False, libraries=False)
    chunks = build_chunks(config, context, choose(context.device, config.parallel, plain))
    for chunk in chunks:
        chunk.eval()
    checkpoints = Checkpoints(run / "checkpoints", Checkpoint(), context)
    progress, damaged = checkpoints.load_weights(chunks, {**model_identity(config), **identity}, step)
    checkpoints.close()
    if context.device.torch.type == "cpu" and config.precision == "fp32":
        for chunk in chunks:
            _lay_by_columns(chunk)
    return Weights(context, chunks, progress, damaged)


def _lay_by_columns(chunk: GPT) -> None:
    """Lay the layers' matrices in memory by columns, shapes as they are.

    Products with one token, which are nothing but reading them, are 5 to 15 % faster so, and those with 4 tokens and
    more are up to a fifth faster; only with 2 or 3 they are slower (measured with GPT-2's shapes and MKL).
    """
    for module in chunk.decoder.layers.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() == 2:
            weight.data = weight.data.t().contiguous().t()
