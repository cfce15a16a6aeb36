"""GPT with a head that gives a text's class at its last token, and the classes' logits of many texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from torch import Tensor, nn
from torch.nn import functional

from megatron_nlg.model.forward import MicroBatch, RunChunk, call, own_part, run_schedule
from megatron_nlg.model.gpt import GPT
from megatron_nlg.parallel.context import ParallelContext


class ClassificationHead(nn.Module):
    """A linear layer in the place of the output layer, whole on every tensor rank.

    Every tensor rank computes the same logits and the same gradients. Under sequence parallelism hidden states are
    gathered first, and each rank's part of their gradient is the one of its own tokens: a sum over ranks would count
    it several times.
    """

    def __init__(self, hidden_size: int, classes: int, tensor_group: Any, gather: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, hidden_size))
        self.bias = nn.Parameter(torch.empty(classes))
        self.tensor_group, self.gather = tensor_group, gather

    def forward(self, hidden: Tensor, weight: None = None, runtime_gather_output: None = None) -> tuple[Tensor, None]:
        """hidden [sequence or its part, batch, hidden] -> logits [sequence, batch, classes], as Megatron-core asks."""
        if self.gather:
            hidden = gather_from_sequence_parallel_region(
                hidden, tensor_parallel_output_grad=False, group=self.tensor_group
            )
        return functional.linear(hidden, self.weight, self.bias), None


class Classifier(GPT):
    """GPT whose output layer is a ClassificationHead. `labels` are class numbers, `loss_mask` is 1 at last tokens."""

    def __init__(self, *args: Any, classes: int, **options: Any):
        super().__init__(*args, **options, share_embeddings_and_output_weights=False)
        self.classes = classes
        if self.post_process:
            self.output_layer = ClassificationHead(
                self.config.hidden_size, classes, self.pg_collection.tp, self.config.sequence_parallel
            )

    def compute_language_model_loss(self, labels: Tensor, logits: Tensor) -> Tensor:
        """labels [batch, sequence], logits [sequence, batch, classes] -> loss per token [batch, sequence], fp32."""
        return functional.cross_entropy(logits.float().permute(1, 2, 0), labels, reduction="none")


@torch.no_grad()
def class_logits(
    chunks: Sequence[Classifier],
    context: ParallelContext,
    micro_batches: Sequence[MicroBatch],
    run_chunk: RunChunk | None = None,
) -> Tensor:
    """Logits of each text's class at its last token, [micro-batches × micro-batch, classes], fp32.

    Of the micro-batches of this data-parallel rank, on every rank of its replica; a text that is all masked, the
    padding of an incomplete batch, gets those of its first token. Interleaved chunks need a multiple of as many
    micro-batches as stages.
    """

    def forward(batches: Iterator[MicroBatch], chunk: nn.Module) -> tuple[Tensor, Any]:
        batch = next(batches)
        out = (run_chunk or call)(chunk, batch["tokens"], batch["positions"], None)

        def keep(logits: Tensor, non_loss_data: bool = True) -> Tensor:  # [batch, sequence, classes]
            last = batch["loss_mask"].argmax(dim=1)
            return logits[torch.arange(len(last), device=last.device), last].float()

        return out, keep

    own = [own_part(batch, context) for batch in micro_batches]
    kept = run_schedule(chunks, own, forward, forward_only=True, keep_outputs=True)
    if context.layout.pipeline == 1:
        return torch.cat(kept)
    rows = sum(len(batch["tokens"]) for batch in micro_batches)
    out = torch.cat(kept) if kept else torch.zeros((rows, chunks[0].classes), device=context.device.torch)
    dist.all_reduce(out, group=context.pipeline_group)  # the others contribute 0
    return out
