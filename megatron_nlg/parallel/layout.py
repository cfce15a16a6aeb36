"""Rank <-> (pipe, data, tensor): the coordinates of a 3D-parallel run, in pure Python.

Axes are (pipe, data, tensor), row-major: tensor varies fastest, then data, then pipe. Tensor parallelism has the
largest traffic and gets neighbouring ranks (a node's GPU links); data-parallel peers are as close as the rest allows;
pipeline stages, with the smallest traffic, are farthest apart (MT-NLG, section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Coordinates:
    """Where a rank stands on each axis."""

    pipe: int
    data: int
    tensor: int


@dataclass(frozen=True)
class Layout:
    """Sizes of the axes. `interleave` is the number of model chunks a pipeline stage holds."""

    pipeline: int = 1
    data: int = 1
    tensor: int = 1
    interleave: int = 1

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.pipeline * self.data * self.tensor

    def coordinates(self, rank: int) -> Coordinates:
        """Coordinates of a global rank."""
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank {rank} is not one of the {self.world_size} of {self}")
        rest, tensor = divmod(rank, self.tensor)
        pipe, data = divmod(rest, self.data)
        return Coordinates(pipe, data, tensor)

    def rank(self, at: Coordinates) -> int:
        """Global rank at the coordinates."""
        return (at.pipe * self.data + at.data) * self.tensor + at.tensor

    def tensor_groups(self) -> list[list[int]]:
        """Ranks that share every matrix."""
        return [
            [self.rank(Coordinates(p, d, t)) for t in range(self.tensor)]
            for p, d in product(range(self.pipeline), range(self.data))
        ]

    def data_groups(self) -> list[list[int]]:
        """Ranks that hold the same part of the model and see different samples."""
        return [
            [self.rank(Coordinates(p, d, t)) for d in range(self.data)]
            for p, t in product(range(self.pipeline), range(self.tensor))
        ]

    def pipeline_groups(self) -> list[list[int]]:
        """Ranks that hold the stages of one replica, first to last."""
        return [
            [self.rank(Coordinates(p, d, t)) for p in range(self.pipeline)]
            for d, t in product(range(self.data), range(self.tensor))
        ]

    def layers(self, num_layers: int, pipe: int) -> Iterator[range]:
        """Zero-based layers of each chunk of a stage: chunk v of stage p is the (v × pipeline + p)-th run of layers."""
        size = num_layers // (self.pipeline * self.interleave)
        for chunk in range(self.interleave):
            first = (chunk * self.pipeline + pipe) * size
            yield range(first, first + size)

    def __str__(self) -> str:
        chunks = f" × {self.interleave} chunks" if self.interleave > 1 else ""
        return f"tensor {self.tensor} × pipeline {self.pipeline}{chunks} × data {self.data}"
