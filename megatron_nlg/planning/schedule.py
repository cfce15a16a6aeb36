"""The order in which a pipeline stage works: GPipe, 1F1B and interleaved 1F1B, as Megatron-core does the latter two.

Narayanan et al. 2021, figures 3 and 4. Held against the order that runs on the CPU record.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple

Schedule = Literal["gpipe", "1f1b"]
"""1f1b is interleaved when a stage has more than one chunk."""


class Pass(NamedTuple):
    """One pass of a micro-batch through a chunk of a stage."""

    kind: Literal["forward", "backward"]
    micro_batch: int
    chunk: int


def stage_order(schedule: Schedule, stages: int, chunks: int, micro_batches: int, stage: int) -> list[Pass]:
    """All passes of a stage in their order. Interleaving needs `micro_batches` to be a multiple of `stages`."""
    if chunks > 1 and micro_batches % stages:
        raise ValueError(f"{micro_batches} micro-batches are not a multiple of {stages} interleaved stages")
    table = list(_table(stages, chunks, micro_batches))
    forward = [Pass("forward", *entry) for entry in table]
    backward = [Pass("backward", micro_batch, chunks - 1 - chunk) for micro_batch, chunk in table]
    if schedule == "gpipe":
        return forward + backward
    warm_up = stages - stage - 1
    if chunks > 1:
        warm_up = 2 * warm_up + (chunks - 1) * stages
    warm_up = min(warm_up, len(table))
    steady = [step for pair in zip(forward[warm_up:], backward, strict=False) for step in pair]
    return forward[:warm_up] + steady + backward[len(table) - warm_up :]


def _table(stages: int, chunks: int, micro_batches: int) -> Iterator[tuple[int, int]]:
    """(micro-batch, chunk) of the forward passes: `stages` micro-batches go through all chunks before the next do."""
    group = stages if chunks > 1 else 1
    for first in range(0, micro_batches, group):
        for chunk, micro_batch in product(range(chunks), range(first, first + group)):
            yield micro_batch, chunk
