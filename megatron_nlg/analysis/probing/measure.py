"""A set measured at every layer: its code, a probe trained on all of it, and both for the control task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from megatron_nlg.analysis.probing.codelength import Code, online_codes
from megatron_nlg.analysis.probing.fit import Examples, Training, fit
from megatron_nlg.analysis.probing.probes import MIXTURE, Bank, standardized
from megatron_nlg.analysis.probing.scores import accuracy, control_labels, macro_f1, majority

HELD_OUT = 0.1
"""Share of the examples that say when to stop, and of those that are tested on."""

AT_ONCE = 2**29
"""Bytes of representations that are in memory at once; what is made of them takes a few times that."""


@dataclass(frozen=True)
class Represented:
    """Representations of a set's examples, and what is asked of them."""

    task: str
    values: NDArray[np.float32]
    """[layers, examples, spans, hidden]"""
    labels: NDArray[np.int64]
    classes: int
    types: Sequence[str]


@dataclass(frozen=True)
class Parts:
    """Examples in their order: sent, held out to stop training, tested."""

    train: Examples
    held_out: Examples
    test: Examples

    @classmethod
    def of(cls, x: torch.Tensor, labels: NDArray[np.int64]) -> Parts:
        """Cut all examples, which are in random order already."""
        whole = Examples(x, torch.from_numpy(labels))
        size = round(HELD_OUT * len(labels))
        first, second = len(labels) - 2 * size, len(labels) - size
        return cls(whole.part(0, first), whole.part(first, second), whole.part(second, len(labels)))


def measure(sets: Sequence[Represented], how: Training) -> Iterator[dict[str, Any]]:
    """A row for each task and layer (one for a mixture): the code, the test, the control task's, and selectivity.

    Layers are read from their arrays group by group; probes of different groups are trained one group after another.
    """
    for group in groups(sets, how):
        yield from _measure(sets, how, group)


def groups(sets: Sequence[Represented], how: Training) -> list[range]:
    """Layers whose probes are trained side by side: all for a mixture, else those that AT_ONCE holds."""
    layers = len(sets[0].values)
    together = layers if how.kind == "mix" else max(1, AT_ONCE * layers // max(1, sum(s.values.nbytes for s in sets)))
    return [range(first, min(layers, first + together)) for first in range(0, layers, together)]


def _measure(sets: Sequence[Represented], how: Training, group: range) -> Iterator[dict[str, Any]]:
    inputs = [_inputs(each.values[group.start : group.stop], how.product) for each in sets]
    parts = [Parts.of(x, each.labels) for x, each in zip(inputs, sets, strict=True)]
    random = [
        Parts.of(x, control_labels(each.types, each.labels, how.seed)) for x, each in zip(inputs, sets, strict=True)
    ]
    classes = [each.classes for each in sets]
    found, control = (_figures(some, classes, how) for some in (parts, random))
    for each, part, rows, others in zip(sets, parts, found, control, strict=True):
        for layer, row, other in zip(group, rows, others, strict=False):  # of a mixture there is one
            yield {
                "task": each.task,
                "probe": how.kind,
                "layer": MIXTURE if how.kind == "mix" else layer,
                **row,
                "majority": majority(part.train.y, part.test.y),
                "control": other,
                "selectivity": row["accuracy"] - other["accuracy"],
            }


def _inputs(values: NDArray[np.float32], product: bool) -> torch.Tensor:
    """[layers, examples, spans, hidden]; the product of two spans is one more."""
    x = standardized(torch.from_numpy(np.ascontiguousarray(values)))
    if product and x.shape[2] == 2:
        x = torch.cat([x, standardized(x[:, :, :1] * x[:, :, 1:])], dim=2)
    return x


def _figures(parts: Sequence[Parts], classes: Sequence[int], how: Training) -> list[list[dict[str, Any]]]:
    """[tasks][probes]"""
    train, held_out = ([getattr(part, name) for part in parts] for name in ("train", "held_out"))
    codes = online_codes(train, held_out, classes, how)
    bank = fit(train, held_out, classes, how)
    return [
        [_row(bank, task, layer, part.test, code, classes[task]) for layer, code in enumerate(codes[task])]
        for task, part in enumerate(parts)
    ]


@torch.no_grad()
def _row(bank: Bank, task: int, layer: int, test: Examples, code: Code, classes: int) -> dict[str, Any]:
    predicted = bank(test.x, task)[layer].argmax(dim=1)
    row = {
        "examples": code.examples,
        "tested": len(test.y),
        "bits": code.bits,
        "uniform_bits": code.uniform_bits,
        "compression": code.compression,
        "accuracy": accuracy(predicted, test.y),
        "f1": macro_f1(predicted, test.y, classes),
        "portions": code.portions,
    }
    if bank.mixture is not None:
        row["mixture"] = bank.mixture.softmax(dim=1)[0].tolist()
    return row


def settings(how: Training) -> dict[str, Any]:
    """What rows depend on."""
    return asdict(how) | {"held_out": HELD_OUT}
