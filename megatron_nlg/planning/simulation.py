"""A pipeline's step, event by event: when every pass of every stage begins and ends.

Stages may differ in length, messages take time, and every pass of every replica may be drawn longer or shorter. The
replicas of a data-parallel run are simulated side by side, as the last axis of all arrays: they meet only when
gradients are summed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megatron_nlg.planning.schedule import Pass, Schedule, stage_order

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Pipeline:
    """What one step of a replica does."""

    forward: Seconds
    """Of a micro-batch through each chunk; [stages, chunks]."""
    backward: Seconds
    """The same, with what is recomputed; [stages, chunks]."""
    micro_batches: int
    message: float = 0.0
    """Of sending one micro-batch's activations, or their gradients, to the next stage."""
    blocking: bool = False
    """A stage waits until its message has arrived, before it goes on."""
    schedule: Schedule = "1f1b"


@dataclass(frozen=True)
class Simulated:
    """The passes of a step."""

    orders: list[list[Pass]]
    """[stages][passes]."""
    begin: list[Seconds]
    """Of each stage's passes, [passes, replicas]; `end` alike."""
    end: list[Seconds]

    @property
    def seconds(self) -> Seconds:
        """When the last pass has ended; [replicas]."""
        total: Seconds = np.max([end[-1] for end in self.end], axis=0)
        return total

    @property
    def busy(self) -> Seconds:
        """Part of the step that stages compute, on average; [replicas]. The rest is bubble and messages."""
        worked = sum((end - begin).sum(axis=0) for begin, end in zip(self.begin, self.end, strict=True))
        share: Seconds = worked / (len(self.end) * self.seconds)
        return share


def simulate(
    pipeline: Pipeline, replicas: int = 1, jitter: float = 0.0, seed: int = 0, slowness: Seconds | None = None
) -> Simulated:
    """Run one step. `jitter` is the standard deviation of the logarithm of every pass's length.

    `slowness`, [stages, replicas], multiplies the passes of slow machines: 1.3 of one takes 30 % longer.
    """
    stages, chunks = pipeline.forward.shape
    orders = [stage_order(pipeline.schedule, stages, chunks, pipeline.micro_batches, stage) for stage in range(stages)]
    draw = np.random.default_rng(seed)
    lengths = {"forward": pipeline.forward, "backward": pipeline.backward}
    begin: list[Seconds] = [np.zeros((len(order), replicas)) for order in orders]
    end: list[Seconds] = [np.zeros((len(order), replicas)) for order in orders]
    free = np.zeros((stages, replicas))
    arrived: dict[tuple[int, Pass], Seconds] = {}
    position = [0] * stages
    waiting = list(range(stages))
    while waiting:
        stage = waiting.pop()
        while position[stage] < len(orders[stage]):
            at, step = position[stage], orders[stage][position[stage]]
            needed = source(step, stage, stages, chunks)
            ready = arrived.get(needed) if needed else 0.0
            if ready is None:
                break
            length = lengths[step.kind][stage, step.chunk]
            if slowness is not None:
                length = length * slowness[stage]
            if jitter:
                length = length * np.exp(jitter * draw.standard_normal(replicas))
            begin[stage][at] = np.maximum(free[stage], ready)
            end[stage][at] = begin[stage][at] + length
            goes = target(step, stage, stages, chunks)
            sending = pipeline.message if goes is not None and goes != stage else 0.0
            arrived[stage, step] = end[stage][at] + sending
            free[stage] = arrived[stage, step] if pipeline.blocking else end[stage][at]
            position[stage] += 1
            if goes is not None and goes != stage and goes not in waiting:
                waiting.append(goes)
    assert position == [len(order) for order in orders], "the schedule waits for itself"
    return Simulated(orders, begin, end)


def source(step: Pass, stage: int, stages: int, chunks: int) -> tuple[int, Pass] | None:
    """Stage and pass whose result a pass needs; None of a micro-batch's first."""
    if step.kind == "forward":
        if stage:
            return stage - 1, step
        return (stages - 1, step._replace(chunk=step.chunk - 1)) if step.chunk else None
    if stage < stages - 1:
        return stage + 1, step
    return (
        (stage, step._replace(kind="forward")) if step.chunk == chunks - 1 else (0, step._replace(chunk=step.chunk + 1))
    )


def target(step: Pass, stage: int, stages: int, chunks: int) -> int | None:
    """The stage that a pass's result goes to; None after the last pass of a micro-batch in its direction."""
    if step.kind == "forward":
        return stage + 1 if stage < stages - 1 else 0 if step.chunk < chunks - 1 else None
    return stage - 1 if stage else stages - 1 if step.chunk else None
