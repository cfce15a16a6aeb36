"""Runs of Megatron-core's schedules over this rank's chunks: the one way a batch goes through the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.pipeline_parallel.schedules import get_forward_backward_func
from torch import Tensor, nn

from megatron_nlg.model.attention import own_positions
from megatron_nlg.model.gpt import GPT
from megatron_nlg.parallel.context import ParallelContext

MicroBatch = dict[str, Tensor]
"""tokens, labels, loss_mask and, where they are asked for, positions and documents; each [micro-batch, sequence]."""
RunChunk = Callable[..., Tensor]
"""(chunk, tokens, positions, attention mask, **options) -> the chunk's output."""


def own_part(batch: MicroBatch, context: ParallelContext) -> MicroBatch:
    """What this rank of the context group takes of a micro-batch, with the positions of its tokens."""
    whole = batch["tokens"]
    own = own_positions(whole.shape[1], context.at.context, context.layout.context, whole.device)
    part = {"positions": own.expand(whole.shape[0], -1)}
    if context.layout.context == 1:
        return part | batch
    # Document numbers stay whole: they say what this rank's tokens see of the others'.
    return part | {key: value if key == "documents" else value[:, own] for key, value in batch.items()}


def run_schedule(
    chunks: Sequence[nn.Module],
    micro_batches: Sequence[MicroBatch],
    forward: Callable[[Iterator[MicroBatch], nn.Module], tuple[Tensor, Any]],
    forward_only: bool,
    keep_outputs: bool = False,
) -> list[Tensor]:
    """Take micro-batches forward (and backward) through all stages: no pipeline, 1F1B or interleaved 1F1B.

    `forward` runs one chunk on the next micro-batch and returns its output and a function of it for the last stage: the
    loss, or, with `keep_outputs`, what to keep. Returns what the last stage kept, [] on the others.
    """
    feeds: Any = [iter(micro_batches) for _ in chunks]
    batch, sequence = micro_batches[0]["tokens"].shape
    sequence *= chunks[0].config.context_parallel_size  # type: ignore[union-attr,operator,assignment]
    single = len(chunks) == 1
    kept: list[Tensor] = get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=feeds[0] if single else feeds,
        model=chunks[0] if single else list(chunks),
        num_microbatches=len(micro_batches),
        seq_length=sequence,
        micro_batch_size=batch,
        forward_only=forward_only,
        collect_non_loss_data=keep_outputs,
    )
    return kept


@torch.no_grad()
def logits(
    chunks: Sequence[GPT], context: ParallelContext, tokens: Tensor, run_chunk: RunChunk | None = None
) -> Tensor:
    """tokens [batch, sequence] -> logits [batch, sequence, padded vocabulary], fp32, on every rank of a replica.

    The tokens must be the same on all ranks of a replica; under context parallelism their number must be a multiple of
    twice the ranks that share a sequence. Interleaved chunks need as many micro-batches as stages, so
    the pass is then made on copies, and the first is returned.
    """

    def forward(batches: Iterator[MicroBatch], chunk: nn.Module) -> tuple[Tensor, Any]:
        batch = next(batches)
        out = (run_chunk or call)(chunk, batch["tokens"], batch["positions"], None)

        def keep(logits: Tensor, non_loss_data: bool = True) -> Tensor:
            masked: Tensor = chunk.mask_padding(logits)  # type: ignore[operator]
            return masked

        return out, keep

    copies = context.layout.pipeline if context.layout.interleave > 1 else 1
    own = own_part({"tokens": tokens}, context)
    out = run_schedule(chunks, [own] * copies, forward, forward_only=True, keep_outputs=True)
    rows = chunks[0].vocab_size // context.layout.tensor
    part = torch.zeros((*tokens.shape, rows), device=context.device.torch)
    if out:
        part[:, own_positions(tokens.shape[1], context.at.context, context.layout.context, part.device)] = out[
            0
        ].float()
    for group, size in (
        (context.pipeline_group, context.layout.pipeline),
        (context.context_group, context.layout.context),
    ):
        if size > 1:
            dist.all_reduce(part, group=group)  # the others contribute 0
    if context.layout.tensor == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(context.layout.tensor)]
    dist.all_gather(parts, part.contiguous(), group=context.tensor_group)
    return torch.cat(parts, dim=-1)


def call(chunk: nn.Module, *args: Any, **options: Any) -> Tensor:
    """Run a chunk directly: a RunChunk for chunks that DeepSpeed does not hold."""
    out: Tensor = chunk(*args, **options)
    return out
