"""The most probable tokens by a rough copy of the output layer: half the bytes, and never another token.

At a few tokens a pass the time is that of reading weights, of which the output layer of a GPT-2 is a third. In bfloat16
it says for nearly all entries that they can't be the highest; what is left is computed from the weights themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 64
"""Of a pass, up to which the copy is faster."""
LEFT = 1024
"""Entries of a row that are worth gathering; with more, the whole product is as fast."""
ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
"""Relative error of one rounding at most; that to bfloat16 may cut instead."""
FLOOR = 2.0**-40
"""Added to lengths: what a processor takes for zero (below 2^-126) is far below it in every product."""
SLACK = 1.01
"""For the rounding of the bounds themselves."""
LARGEST = 2.0**100
"""Error of a logit that can still be none of an overflow."""
CHECKED = 4096
"""Entries of which a product is compared with the exact one."""

Product = Callable[[Tensor, Tensor], Tensor]
"""(x [rows, hidden], weight [entries, hidden]) -> logits [rows, entries], of the inputs' type."""


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """The Product; for one row, PyTorch's general one takes half as long again as this."""
    return weight.mv(x[0])[None] if len(x) == 1 else F.linear(x, weight)


class Screen:
    """Of fp32 weights [entries, hidden] on the CPU, which must stay as they are.

    Let x and w be a row and an entry's weights, x' and w' their roundings to bfloat16, r the computed x'·w', |.| the
    Euclidean length, n the hidden size and u the rounding of fp32. Then
    - |x·w - x'·w'| <= |x| |w - w'| + |x - x'| |w'| (Cauchy-Schwarz);
    - a sum of n products in fp32, in any order, is off by at most n u / (1 - n u) Σ |x'_k w'_k| <= 2 n u |x| |w'|
      (Higham 2002, section 3.1), and rounded to bfloat16 by 2^-8 |r| more.
    The sum bounds the error of r. An entry whose highest logit is below another's lowest is not the highest. Those that
    are left are computed in fp64: of equals the first is taken, and of those that rounding in fp32 can't tell apart,
    the one that is higher.
    """

    def __init__(self, weight: Tensor, product: Product = multiply):
        """Takes half the memory of the weights."""
        self.weight, self.product = weight, product
        self.rough = weight.bfloat16()
        parts = zip(torch.split(weight, CHECKED), torch.split(self.rough, CHECKED), strict=True)
        bounds = [torch.stack((_length(part - rough.float()), _length(rough.float()))) for part, rough in parts]
        apart, length = torch.cat(bounds, dim=1)
        self.summing = 2 * weight.shape[1] * ROUNDING[torch.float32] * SLACK * length
        """Error of r for |x| = 1, without its last rounding, [entries]."""
        self.errors = torch.stack((SLACK * apart + self.summing, SLACK * length))
        """What |x| and |x - x'| are multiplied by, [2, entries]."""
        self.pays = True, True
        """For one row, and for several."""

    @classmethod
    def over(cls, weight: Tensor) -> Screen | None:
        """None where it would not help: on a GPU, not fp32, too rough a product, or slow in bfloat16."""
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            return None
        made = cls(weight)
        made.pays = (made.is_faster(1), made.is_faster(ROWS)) if made.holds() else (False, False)
        return made if any(made.pays) else None

    def holds(self) -> bool:
        """Whether the product sums in fp32, as the bound presumes: no build of PyTorch says so."""
        draw = torch.Generator().manual_seed(0)
        every = slice(None, None, max(1, len(self.rough) // CHECKED))
        for rows in (1, ROWS):
            x = torch.randn(rows, self.rough.shape[1], generator=draw).bfloat16()
            got = self.product(x, self.rough)[:, every].double()
            bound = got.abs() * ROUNDING[torch.bfloat16] + _length(x.double())[:, None] * self.summing[every]
            if not bool(((got - x.double() @ self.rough[every].double().t()).abs() <= bound).all()):
                return False
        return True

    def is_faster(self, rows: int) -> bool:
        """Whether it is on this machine; some have no instructions for bfloat16."""
        x = torch.zeros(rows, self.weight.shape[1])
        return _seconds(lambda: self.product(x.bfloat16(), self.rough)) < _seconds(lambda: F.linear(x, self.weight))

    def best(self, hidden: Tensor) -> Tensor | None:
        """hidden [rows, hidden], fp32 -> the entry with the highest logit of each row, or None where it can't tell."""
        if len(hidden) > ROWS or not self.pays[len(hidden) > 1]:
            return None
        near = hidden.bfloat16()
        lengths = torch.stack((_length(hidden), _length(hidden - near.float())), dim=1)
        rough = self.product(near, self.rough)
        found = []
        for row in zip(hidden, lengths, rough, strict=True):  # one by one they stay in the processor's cache
            if (entry := self._highest(*row)) is None:
                return None
            found.append(entry)
        return torch.tensor(found)

    def _highest(self, x: Tensor, lengths: Tensor, rough: Tensor) -> int | None:
        """x [hidden], |x| and |x - x'| [2], rough logits [entries] -> the highest entry."""
        rough = rough.float()
        errors = (lengths @ self.errors).add_(rough.abs(), alpha=SLACK * ROUNDING[torch.bfloat16])
        if not bool(errors.max() < LARGEST):  # or not a number
            return None
        left = torch.nonzero(rough + errors >= (rough - errors).max())[:, 0]
        if len(left) > LEFT:
            return None
        # Sums of their own, not a matrix product: equal weights have equal ones.
        return int(left[0] if len(left) == 1 else left[(self.weight[left].double() * x.double()).sum(1).argmax()])


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return length + FLOOR


def _seconds(work: Callable[[], object]) -> float:
    """Of the fastest of three calls."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)
