"""Minimum description length by online coding (Voita and Titov 2020, sections 2.2 and 3.2).

Labels are sent in portions. The first is sent by the uniform code, log2(classes) bits a label; each other one by the
probabilities of a probe that was trained on all before it. What can be read from representations easily, with few
examples, makes the sum small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from megatron_nlg.analysis.probing.fit import Examples, Training, fit

FRACTIONS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.25, 12.5, 25.0, 50.0, 100.0)
"""Percent of the examples that have been sent after each portion, as in the paper."""

BITS = 1 / math.log(2)


@dataclass(frozen=True)
class Code:
    """A code of one layer's labels."""

    examples: int
    bits: float
    uniform_bits: float
    portions: tuple[tuple[int, float], ...]
    """Examples before a portion, and the bits it took."""

    @property
    def compression(self) -> float:
        """Uniform code over this one: 1 says that nothing was learned."""
        return self.uniform_bits / self.bits


def cuts(examples: int, fractions: Sequence[float] = FRACTIONS) -> list[int]:
    """Where portions end; a portion without an example is left out."""
    return sorted({round(fraction / 100 * examples) for fraction in fractions} - {0})


def online_codes(
    train: Sequence[Examples],
    held_out: Sequence[Examples],
    classes: Sequence[int],
    how: Training,
    fractions: Sequence[float] = FRACTIONS,
) -> list[list[Code]]:
    """Codes of each task's labels in their order, by probe: [tasks][probes]. Several tasks advance together."""
    ends = [cuts(len(examples.y), fractions) for examples in train]
    portions = max(map(len, ends))
    ends = [[end[0]] * (portions - len(end)) + end for end in ends]
    sent: list[list[list[tuple[int, float]]]] = [[] for _ in train]  # [tasks][probes][portions]
    for portion in range(portions - 1):
        known = [examples.part(0, end[portion]) for examples, end in zip(train, ends, strict=True)]
        bank = fit(known, held_out, classes, how)
        for task, examples in enumerate(train):
            begin, end = ends[task][portion : portion + 2]
            bits = _bits(bank, examples.part(begin, end), task) if end > begin else [0.0] * bank.probes
            sent[task] = sent[task] or [[] for _ in bits]
            for row, value in zip(sent[task], bits, strict=True):
                row.append((begin, value))
    return [
        [_code(rows, end[0], len(examples.y), count) for rows in by_probe]
        for by_probe, end, examples, count in zip(sent, ends, train, classes, strict=True)
    ]


def _code(rows: Sequence[tuple[int, float]], first: int, examples: int, classes: int) -> Code:
    each = math.log2(classes)
    portions = ((0, first * each), *(row for row in rows if row[1]))
    return Code(examples, math.fsum(bits for _, bits in portions), examples * each, portions)


@torch.no_grad()
def _bits(bank: torch.nn.Module, examples: Examples, task: int) -> list[float]:
    """Of a portion, by probe."""
    found = bank(examples.x, task).double()
    own = found.gather(2, examples.y.view(1, -1, 1).expand(len(found), -1, 1))
    return [-BITS * float(total) for total in own.sum(dim=(1, 2))]
