"""A pipeline's step where stages share cores: what computes at the same time slows each other, what waits does not.

Ranks on a CPU wait for messages asleep, so cores are idle only when too few ranks have something to do. All ranks of a
stage do the same at the same time; every pass is so much work, done at a speed that depends on who else works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from megatron_nlg.planning.schedule import Pass, stage_order
from megatron_nlg.planning.simulation import Pipeline, Simulated, source, target


@dataclass
class _Stage:
    """Where a stage is in its order."""

    order: list[Pass]
    work: list[float]
    at: int = 0
    left: float | None = None
    """Work of the running pass; None between two."""


def simulate_shared(pipeline: Pipeline, speed: Callable[[int], float], after: Sequence[float]) -> Simulated:
    """One step of one replica. `speed(n)` is that of each stage while n of them work, and `after` each one's last work.

    Half of a message is work of who sends it, half of who receives it. The last pass of a stage ends with what comes
    after it: gradients summed and weights updated.
    """
    stages, chunks = pipeline.forward.shape
    running = [_Stage(order, _work(pipeline, order, stage)) for stage, order in enumerate(_orders(pipeline))]
    for stage, last in zip(running, after, strict=True):
        stage.work[-1] += last
    begin, end = ([np.zeros((len(s.order), 1)) for s in running] for _ in range(2))
    done: set[tuple[int, Pass]] = set()
    now = 0.0
    while any(s.at < len(s.order) for s in running):
        for number, s in enumerate(running):
            if s.left is None and s.at < len(s.order):
                needed = source(s.order[s.at], number, stages, chunks)
                if needed is None or needed in done:
                    s.left, begin[number][s.at] = s.work[s.at], now
        busy = [(number, s, s.left) for number, s in enumerate(running) if s.left is not None]
        assert busy, "the schedule waits for itself"
        rate = speed(len(busy))
        least = min(left for _, _, left in busy)
        now += least / rate
        for number, s, left in busy:
            s.left = left - least
            if s.left <= 1e-12:
                end[number][s.at] = now
                done.add((number, s.order[s.at]))
                s.at, s.left = s.at + 1, None
    return Simulated([s.order for s in running], begin, end)


def _orders(pipeline: Pipeline) -> list[list[Pass]]:
    stages, chunks = pipeline.forward.shape
    return [stage_order(pipeline.schedule, stages, chunks, pipeline.micro_batches, stage) for stage in range(stages)]


def _work(pipeline: Pipeline, order: Sequence[Pass], stage: int) -> list[float]:
    """Seconds of each pass alone, with its parts of messages."""
    stages, chunks = pipeline.forward.shape
    lengths = {"forward": pipeline.forward, "backward": pipeline.backward}
    out = []
    for step in order:
        comes, goes = source(step, stage, stages, chunks), target(step, stage, stages, chunks)
        messages = (comes is not None and comes[0] != stage) + (goes is not None and goes != stage)
        out.append(float(lengths[step.kind][stage, step.chunk]) + messages * pipeline.message / 2)
    return out
