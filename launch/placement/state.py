"""A seating that changes by one virtual node at a time, and the loads that follow.

In whole bytes, so that nothing drifts.
"""

from __future__ import annotations

from operator import mul

from launch.placement.problem import Problem
from megatron_nlg.planning.traffic import Floats, Numbers

Neighbour = tuple[int, int, int]
"""A virtual node, the bytes to it, and those from it."""


class State:
    """Virtual nodes on nodes of the fabric, some not seated (-1), and the load of every link for every cut."""

    def __init__(self, problem: Problem) -> None:
        fabric = problem.fabric
        self.problem = problem
        self.seat = [-1] * problem.size
        self.path = [fabric.paths[cut.level - 1].tolist() for cut in problem.cuts]
        self.neighbours = [_neighbours(problem.size, cut.source, cut.target, cut.bytes) for cut in problem.cuts]
        self.load = [[0] * len(fabric.members[cut.level - 1]) for cut in problem.cuts]
        self.crossing = [0] * len(problem.cuts)
        bandwidth = [fabric.bandwidth(cut.level) for cut in problem.cuts]
        self.slow = [float(1 / b.min()) for b in bandwidth]
        self.inverse = [None if b.min() == b.max() else (1 / b).tolist() for b in bandwidth]
        self.fixed = problem.fixed[0].tolist()
        self.waits = [
            [rounds * fabric.latency(level) for level in range(len(fabric.levels))] for rounds in problem.fixed[1]
        ]
        self.cuts = [(cut.level, cut.kind) for cut in problem.cuts]

    def put(self, one: int, node: int) -> None:
        """Seat a virtual node."""
        self.seat[one] = node
        self._count(one, node, 1)

    def take(self, one: int) -> int:
        """Unseat a virtual node; where it sat."""
        node, self.seat[one] = self.seat[one], -1
        self._count(one, node, -1)
        return node

    def _count(self, one: int, node: int, sign: int) -> None:
        seat = self.seat
        for number, (path, neighbours) in enumerate(zip(self.path, self.neighbours, strict=True)):
            load, member, crossing = self.load[number], path[node], 0
            for other, sent, received in neighbours[one]:
                there = seat[other]
                if there >= 0 and path[there] != member:
                    load[member] += sign * sent
                    load[path[there]] += sign * received
                    crossing += sent + received
            self.crossing[number] += sign * crossing

    def seconds(self) -> float:
        """Of the seated ones: never more than with further ones seated."""
        peak, highest = self.fixed.copy(), self.problem.lowest.copy()
        for number, (level, kind) in enumerate(self.cuts):
            if self.crossing[number]:
                load, inverse = self.load[number], self.inverse[number]
                time = max(load) * self.slow[number] if inverse is None else max(map(mul, load, inverse))
                peak[kind] = max(peak[kind], time)
                highest[kind] = max(highest[kind], level)
        for waits, level in zip(self.waits, highest, strict=True):
            peak.append(waits[level] if level >= 0 else 0.0)
        return float(sum(peak))

    def spread(self) -> float:
        """Seconds of the average link, summed over cuts: what leads a search over plateaus of `seconds`."""
        return sum(
            crossing * slow / len(load)
            for crossing, slow, load in zip(self.crossing, self.slow, self.load, strict=True)
        )


def _neighbours(size: int, source: Numbers, target: Numbers, amount: Floats) -> list[list[Neighbour]]:
    both: list[dict[int, list[int]]] = [{} for _ in range(size)]
    for one, other, sent in zip(source.tolist(), target.tolist(), amount.tolist(), strict=True):
        both[one].setdefault(other, [0, 0])[0] += round(sent)
        both[other].setdefault(one, [0, 0])[1] += round(sent)
    return [[(other, sent, received) for other, (sent, received) in sorted(row.items())] for row in both]
