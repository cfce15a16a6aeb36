"""Branch and bound over all seatings of a small problem.

Virtual nodes are seated one after the other; loads only grow, so that a part of a seating that is no better than the
best whole one ends its branch. Of nodes and empty parts of the tree that are alike, only the first is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from launch.placement.problem import Cost, Problem
from launch.placement.state import State
from megatron_nlg.planning.traffic import Numbers

MARGIN = 1e-7
"""A seating is better when it is faster by more than this part: whole bytes round."""


@dataclass(frozen=True, eq=False)
class Proof:
    """What came of it."""

    finished: bool
    """Whether all seatings were looked at, or shown to be no faster."""
    seating: Numbers | None
    """A faster one than what was known, the fastest seen."""


def prove(problem: Problem, known: Cost, steps: int) -> Proof:
    """Look for a faster seating than `known`, or show within so many steps that there is none."""
    search = _Search(problem, known.seconds, steps)
    finished = search.go(0)
    return Proof(finished, np.array(search.best) if search.best else None)


class _Search:
    def __init__(self, problem: Problem, seconds: float, steps: int) -> None:
        self.state, self.seconds, self.steps = State(problem), seconds, steps
        self.best: list[int] | None = None
        fabric = problem.fabric
        self.paths = fabric.paths.T.tolist()
        self.taken: set[int] = set()
        self.shape = _shapes(problem)

    def go(self, one: int) -> bool:
        """Seat virtual node `one` and all after it in every way; False when steps ran out."""
        if one == self.state.problem.size:
            self.seconds, self.best = self.state.seconds(), self.state.seat.copy()
            return True
        busy = {(level, member) for node in self.taken for level, member in enumerate(self.paths[node])}
        tried = set()
        for node, path in enumerate(self.paths):
            # A busy part is itself; an idle one is as good as any other of its shape.
            alike = tuple(
                member if (level, member) in busy else self.shape[level][member] for level, member in enumerate(path)
            )
            if node in self.taken or alike in tried:
                continue
            tried.add(alike)
            self.steps -= 1
            if self.steps < 0:
                return False
            self.state.put(one, node)
            self.taken.add(node)
            finished = self.state.seconds() >= self.seconds * (1 - MARGIN) or self.go(one + 1)
            self.taken.discard(node)
            self.state.take(one)
            if not finished:
                return False
        return True


def _shapes(problem: Problem) -> list[list[str]]:
    """For each level and member: a text equal for members that are alike in bandwidth and all that is below."""
    fabric = problem.fabric
    shapes: list[list[str]] = []
    for level in range(1, len(fabric.levels)):
        own = fabric.bandwidth(level)
        below: list[list[str]] = [[] for _ in own]
        if level > 1:
            for member, above in enumerate(fabric.above[level - 2]):
                below[above].append(shapes[-1][member])
        shapes.append([f"{speed:g}({','.join(sorted(parts))})" for speed, parts in zip(own, below, strict=True)])
    return shapes
