"""How well a classifier does on labelled texts: loss, accuracy and F1 from counts over all replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from megatron_nlg.model.forward import MicroBatch
from megatron_nlg.training.engine import Engine


@dataclass(frozen=True)
class Scores:
    """Of a set of texts."""

    loss: float
    """Mean cross-entropy of the classes, in nats per text."""
    accuracy: float
    """Share of the texts whose most probable class is the right one; of equal ones the first counts."""
    f1: float
    """2 TP / (2 TP + FP + FN), 0 where there is nothing to count: of the second class when there are two, else the
    mean over all classes (macro)."""
    examples: int
    """Texts."""


def score(engine: Engine, batches: Iterable[Sequence[MicroBatch]]) -> Scores:
    """Score this rank's share of global batches with all others'; masked texts do not count. Collective."""
    context, classes = engine.context, engine.config.classes
    sums = torch.zeros(1 + classes * classes, dtype=torch.float64, device=context.device.torch)
    for micro_batches in batches:
        logits = engine.class_logits(micro_batches)
        right, there = (torch.cat(parts) for parts in zip(*map(_targets, micro_batches), strict=True))
        logits, right = logits[there], right[there]
        sums[0] += functional.cross_entropy(logits.double(), right, reduction="sum")
        sums[1:] += torch.bincount(right * classes + logits.argmax(dim=1), minlength=classes * classes)
    dist.all_reduce(sums, group=context.data_group)
    return scores_of(float(sums[0]), sums[1:].view(classes, classes).cpu())


def scores_of(loss: float, confusion: Tensor) -> Scores:
    """From a sum of losses, and confusion [right class, predicted class], in texts."""
    examples, hits = int(confusion.sum()), confusion.diagonal()
    counted = confusion.sum(dim=0) + confusion.sum(dim=1)  # 2 TP + FP + FN
    f1 = 2 * hits / counted.clamp(min=1)
    binary = len(confusion) == 2
    return Scores(
        loss=loss / examples,
        accuracy=float(hits.sum()) / examples,
        f1=float(f1[1] if binary else f1.mean()),
        examples=examples,
    )


def _targets(batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Right class of each text of a micro-batch, and whether there is a text."""
    last = batch["loss_mask"].argmax(dim=1, keepdim=True)
    return batch["labels"].gather(1, last)[:, 0], batch["loss_mask"].sum(dim=1) > 0
