"""Rank <-> (pipe, data, context, tensor): the coordinates of a parallel run, in pure Python.

The axes are row-major: tensor varies fastest, then context, then data, then pipe. Tensor parallelism has the largest
traffic and gets neighbouring ranks (a node's GPU links), context parallelism the next; data-parallel peers are as close
as the rest allows; pipeline stages, with the smallest traffic, are farthest apart (MT-NLG, section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron_nlg.config.schema import Parallel


@dataclass(frozen=True)
class Coordinates:
    """Where a rank stands on each axis."""

    pipe: int
    data: int
    tensor: int
    context: int = 0


@dataclass(frozen=True)
class Layout:
    """Sizes of the axes. `interleave` is the number of model chunks a pipeline stage holds."""

    pipeline: int = 1
    data: int = 1
    tensor: int = 1
    interleave: int = 1
    context: int = 1

    @classmethod
    def of(cls, parallel: Parallel, ranks: int) -> Layout:
        """The layout of a config on a number of ranks that it fits."""
        data = ranks // (parallel.tensor * parallel.pipeline * parallel.context)
        return cls(parallel.pipeline, data, parallel.tensor, parallel.interleave, parallel.context)

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.pipeline * self.data * self.context * self.tensor

    @property
    def copies(self) -> int:
        """Ranks that hold the same weights: ZeRO cuts state over them, and gradients are summed over them."""
        return self.data * self.context

    def coordinates(self, rank: int) -> Coordinates:
        """Coordinates of a global rank."""
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank {rank} is not one of the {self.world_size} of {self}")
        rest, tensor = divmod(rank, self.tensor)
        rest, context = divmod(rest, self.context)
        pipe, data = divmod(rest, self.data)
        return Coordinates(pipe, data, tensor, context)

    def rank(self, at: Coordinates) -> int:
        """Global rank at the coordinates."""
        return ((at.pipe * self.data + at.data) * self.context + at.context) * self.tensor + at.tensor

    def tensor_groups(self) -> list[list[int]]:
        """Ranks that share every matrix."""
        return [list(range(first, first + self.tensor)) for first in range(0, self.world_size, self.tensor)]

    def context_groups(self) -> list[list[int]]:
        """Ranks that share each sequence."""
        return [
            [self.rank(Coordinates(p, d, t, c)) for c in range(self.context)]
            for p, d, t in product(range(self.pipeline), range(self.data), range(self.tensor))
        ]

    def data_groups(self) -> list[list[int]]:
        """Ranks that hold the same part of the model: data- and context-parallel peers."""
        stage = self.copies * self.tensor
        return [
            list(range(p * stage + t, (p + 1) * stage, self.tensor))
            for p, t in product(range(self.pipeline), range(self.tensor))
        ]

    def pipeline_groups(self) -> list[list[int]]:
        """Ranks that hold the stages of one replica, first to last."""
        return [
            [self.rank(Coordinates(p, d, t, c)) for p in range(self.pipeline)]
            for d, c, t in product(range(self.data), range(self.context), range(self.tensor))
        ]

    def layers(self, num_layers: int, pipe: int) -> Iterator[range]:
        """Zero-based layers of each chunk of a stage: chunk v of stage p is the (v × pipeline + p)-th run of layers."""
        size = num_layers // (self.pipeline * self.interleave)
        for chunk in range(self.interleave):
            first = (chunk * self.pipeline + pipe) * size
            yield range(first, first + size)

    def __str__(self) -> str:
        chunks = f" × {self.interleave} chunks" if self.interleave > 1 else ""
        context = f" × context {self.context}" if self.context > 1 else ""
        return f"tensor {self.tensor} × pipeline {self.pipeline}{chunks}{context} × data {self.data}"
