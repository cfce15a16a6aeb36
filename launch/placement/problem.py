"""The search's view of a placement: virtual nodes, the bytes between them, and what a seating of them costs.

A seating gives each virtual node a node of the fabric. What it costs is decided by the cuts: for every link, the bytes
between the virtual nodes below it and the others. Where the most loaded rail and direction are the same whatever the
seating, which symmetric traffic over all rails makes the rule, a link has one load a kind; else one a rail and
direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from launch.placement.arrangement import Arrangement
from megatron_nlg.planning.communication import Group
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.links import Places, kind_loads
from megatron_nlg.planning.traffic import KINDS, Exchange, Floats, Flows, Numbers, flows


@dataclass(frozen=True, eq=False)
class Cut:
    """One load of every link of a level: bytes from virtual nodes below it to those that are not."""

    level: int
    kind: int
    source: Numbers
    target: Numbers
    bytes: Floats


@dataclass(frozen=True)
class Cost:
    """Of a step; see `search.preferred` for how two compare."""

    seconds: float
    bytes: float
    """That cross links of the searched levels, all of them together."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Virtual nodes of an arrangement to be seated on a fabric that has as many nodes, or more: spares."""

    fabric: Fabric
    arrangement: Arrangement
    exchanges: tuple[Exchange, ...]

    @cached_property
    def size(self) -> int:
        """Virtual nodes."""
        return int(self.arrangement.node.max()) + 1

    @cached_property
    def flows(self) -> dict[Group, Flows]:
        """Bytes between ranks by kind: the same wherever the virtual nodes sit."""
        return {
            kind: flows(self.exchanges, kind, self.arrangement.node)
            for kind in KINDS
            if any(exchange.kind == kind for exchange in self.exchanges)
        }

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Levels where the seating matters; nodes' own links only where they differ."""
        own = self.fabric.bandwidth(1)
        return tuple(range(1 if own.min() < own.max() else 2, len(self.fabric.levels)))

    @cached_property
    def cuts(self) -> list[Cut]:
        """All loads that depend on the seating."""
        places = Places.on(self.arrangement.node)
        found = []
        for level in self.levels:
            count = self.fabric.levels[level].rails
            rail = np.minimum(places.gpu * count // max(self.fabric.gpus_per_node, 1), count - 1)
            for kind, traffic in enumerate(self.flows.values()):
                found.extend(_cuts(level, kind, traffic, self.arrangement.node, rail, self.size))
        return found

    @cached_property
    def total(self) -> tuple[Numbers, Numbers, Floats]:
        """Bytes of all kinds between virtual nodes: source, target, amount."""
        between = [traffic.between(self.arrangement.node) for traffic in self.flows.values()]
        ends = [np.zeros(0, dtype=np.int64), *(flow.source * self.size + flow.target for flow in between)]
        pairs, index = np.unique(np.concatenate(ends), return_inverse=True)
        amount = np.bincount(index, np.concatenate([np.zeros(0), *(flow.bytes for flow in between)]), len(pairs))
        return pairs // self.size, pairs % self.size, amount.astype(np.float64)

    @cached_property
    def fixed(self) -> tuple[Floats, Floats]:
        """[kinds] seconds of links below the searched levels, [kinds] rounds."""
        seconds = np.zeros(len(self.flows))
        for number, traffic in enumerate(self.flows.values()):
            seats = Places.on(np.arange(self.size)[self.arrangement.node])
            below = kind_loads(self.fabric, traffic, seats).seconds
            seconds[number] = max(below[: self.levels[0]] if self.levels else below)
        return seconds, np.array([float(traffic.rounds) for traffic in self.flows.values()])

    @cached_property
    def lowest(self) -> list[int]:
        """[kinds] highest level below the searched ones that carries bytes; -1 for none."""
        node = self.arrangement.node
        return [-1 if not len(t.source) else int((node[t.source] != node[t.target]).any()) for t in self.flows.values()]

    def cost(self, seating: Numbers) -> Cost:
        """Of a seating: `seating[virtual node]` is the number of a node of the fabric."""
        peak, highest = self.fixed[0].copy(), list(self.lowest)
        for cut in self.cuts:
            member = self.fabric.paths[cut.level - 1][seating]
            away = member[cut.source] != member[cut.target]
            load = np.bincount(member[cut.source[away]], cut.bytes[away], len(self.fabric.members[cut.level - 1]))
            if load.any():
                highest[cut.kind] = max(highest[cut.kind], cut.level)
                peak[cut.kind] = max(peak[cut.kind], (load / self.fabric.bandwidth(cut.level)).max())
        waits = [self.fabric.latency(level) if level >= 0 else 0.0 for level in highest]
        source, target, amount = self.total
        crossing = sum(float(amount[member[source] != member[target]].sum()) for member in self._members(seating))
        return Cost(float(peak.sum() + self.fixed[1] @ waits), crossing)

    def _members(self, seating: Numbers) -> Iterator[Numbers]:
        for level in self.levels:
            yield self.fabric.paths[level - 1][seating]


def _cuts(level: int, kind: int, traffic: Flows, node: Numbers, rail: Numbers, size: int) -> list[Cut]:
    """Loads of a kind on a level: one for each rail and direction, less those that never exceed another."""
    source, target = node[traffic.source], node[traffic.target]
    away = source != target
    ends = [(source, target, rail[traffic.source]), (target, source, rail[traffic.target])]
    rows = []
    for own, other, rails in ends:
        for number in np.unique(rails[away]):
            chosen = away & (rails == number)
            rows.append((own[chosen] * size + other[chosen], traffic.bytes[chosen]))
    if not rows:
        return []
    pairs, index = np.unique(np.concatenate([pair for pair, _ in rows]), return_inverse=True)
    table, start = np.zeros((len(rows), len(pairs))), 0
    for row, (pair, amount) in enumerate(rows):
        np.add.at(table[row], index[start : start + len(pair)], amount)
        start += len(pair)
    return [
        Cut(level, kind, pairs[row > 0] // size, pairs[row > 0] % size, row[row > 0])
        for row in _undominated(_balanced(table, pairs, size))
    ]


def _balanced(table: Floats, pairs: Numbers, size: int) -> Floats:
    """Rows in which every virtual node sends what it receives, made symmetric: any cut of theirs stays what it is."""
    turned = np.searchsorted(pairs, pairs % size * size + pairs // size)
    for number, row in enumerate(table):
        sent, received = (np.bincount(end, row, size) for end in (pairs // size, pairs % size))
        if np.allclose(sent, received, rtol=1e-9):
            table[number] = (row + row[turned]) / 2
    return table


def _undominated(table: Floats) -> list[Floats]:
    kept: list[Floats] = []
    for row in sorted(table, key=np.sum, reverse=True):
        if not any((row <= other * (1 + 1e-9)).all() for other in kept):
            kept.append(row)
    return kept
