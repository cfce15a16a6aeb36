"""What no placement can be faster than, as long as tensor groups stay whole.

A leaf switch with s tensor groups below it, seen on the grid of P stages × C copies: when it holds f whole rings of
copies and touches x more, g whole pipelines and touches y more, at least x rings and y pipelines cross its link, and
    s ≤ x·y                     with f = g = 0,
    x ≥ [C does not divide s]   with g = 0 and f > 0, where all C pipelines are touched, and the same turned round,
    P·C − s ≤ x·y               with both: what is outside lies in x rings and y pipelines.
The cheapest x and y that satisfy one of these bound the sum of the two kinds' seconds on that link, and so that of the
step. On average over the links of a level a pipeline cut into q pieces crosses 2(q − 1) times, which bounds it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.communication import Group
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.links import Places, kind_loads
from megatron_nlg.planning.traffic import KINDS, Exchange, Floats, Flows, flows


@dataclass(frozen=True)
class Bound:
    """Least seconds and bytes of a step."""

    seconds: float
    level_seconds: tuple[float, ...]
    level_bytes: tuple[float, ...]


@dataclass(frozen=True)
class _Grid:
    """Stages × copies, and the least bytes of a ring and of a pipeline that cross a link, over all tensor ranks."""

    stages: int
    copies: int
    ring: float
    pipe: float

    def crossings(self, groups: int) -> Iterator[tuple[int, int, int]]:
        """(rings, pipelines that cross, pipelines touched) around so many tensor groups, the cheapest among them."""
        stages, copies = self.stages, self.copies
        outside = stages * copies - groups
        if not groups or not outside:
            yield 0, 0, copies if groups else 0
            return
        yield int(groups % copies > 0), copies, copies
        yield stages, int(groups % stages > 0), -(-groups // stages)
        for rings in range(1, stages + 1):
            if -(-groups // rings) <= copies:
                yield rings, -(-groups // rings), -(-groups // rings)
            if rings < stages and -(-outside // rings) < copies:
                yield rings, -(-outside // rings), copies


def lower_bound(fabric: Fabric, exchanges: Sequence[Exchange], layout: Layout, per_node: int) -> Bound:
    """Of all placements on as many nodes of `fabric` as the run needs."""
    ranks = np.arange(layout.world_size)
    alone = {kind: flows(exchanges, kind, ranks) for kind in KINDS if any(one.kind == kind for one in exchanges)}
    levels = range(len(fabric.levels))
    slots = max(1, per_node // layout.tensor)
    least = {kind: [0.0 for _ in levels] for kind in alone}
    crossed = [0.0 for _ in levels]
    for kind, traffic in alone.items():
        least[kind][0] = float(np.bincount(traffic.source, traffic.bytes).max() / fabric.bandwidth(0)[0])
        crossed[0] += float(traffic.bytes.sum())
    if layout.tensor % per_node == 0:  # nodes' own links carry the same wherever they are
        places = Places.on(ranks // per_node)
        for kind in alone:
            loads = kind_loads(fabric, flows(exchanges, kind, places.node), places).bytes[1]
            least[kind][1] = float(loads.max() / fabric.bandwidth(1).max())
            crossed[1] += float(loads[:, :, 0].sum())
    floor = {kind: max(seconds) for kind, seconds in least.items()}
    both = floor.get("copies", 0.0), floor.get("pipeline", 0.0)
    grid, nodes, joint = _grid(layout, alone), layout.world_size // per_node, sum(both)
    shown = [sum(least[kind][level] for kind in least) for level in levels]
    for level in levels[1:] if layout.tensor <= per_node and per_node % layout.tensor == 0 else ():
        seconds, with_floor, bytes_ = _level(fabric, level, grid, slots, nodes, both)
        joint, shown[level] = max(joint, with_floor), max(shown[level], seconds)
        crossed[level] = max(crossed[level], bytes_)
    rest = sum(seconds for kind, seconds in floor.items() if kind not in ("copies", "pipeline"))
    waits = sum(
        traffic.rounds * fabric.latency(_lowest(fabric, _size(layout, kind), layout, per_node))
        for kind, traffic in alone.items()
    )
    return Bound(rest + joint + waits, tuple(shown), tuple(crossed))


def _grid(layout: Layout, alone: dict[Group, Flows]) -> _Grid:
    """Each ring and pipeline at its cheapest: the least of what its members send each other."""
    least = {kind: flow.between(np.arange(layout.world_size)).bytes.min() for kind, flow in alone.items()}
    ring, pipe = (float(least.get(kind, 0.0)) * layout.tensor for kind in ("copies", "pipeline"))
    return _Grid(layout.pipeline, layout.copies, ring, pipe)


def _level(
    fabric: Fabric, level: int, grid: _Grid, slots: int, nodes: int, floor: tuple[float, float]
) -> tuple[float, float, float]:
    """Least seconds of copies and pipelines on the level's links, with each kind's floor, and bytes on all of them."""
    speed = fabric.bandwidth(level) * fabric.levels[level].rails
    sizes, spare = np.bincount(fabric.paths[level - 1]), len(fabric.nodes) - nodes

    @cache
    def on_one(size: int, bandwidth: float) -> Floats:
        """[3, spares]: least seconds, seconds with floors, and bytes, with 0, 1, … of its nodes left out."""
        found = np.full((3, spare + 1), np.inf)
        for left_out in range(min(spare, size) + 1):
            rows = []
            for rings, pipes, touched in grid.crossings(slots * (size - left_out)):
                ring, pipe = rings * grid.ring / bandwidth, pipes * grid.pipe / bandwidth
                floored = max(ring, floor[0]) + max(pipe, floor[1])
                rows.append((ring + pipe, floored, rings * grid.ring + 2 * touched * grid.pipe))
            found[:, left_out] = np.min(rows, axis=0)
        return found

    # For each number of spares, the best way to share them out to the links so far.
    total = np.full((3, spare + 1), np.inf)
    total[:, 0] = 0
    for size, own in zip(sizes.tolist(), speed.tolist(), strict=True):
        one, best = on_one(size, own), np.full_like(total, np.inf)
        for left_out in range(min(spare, size) + 1):
            before, after = total[:, : spare + 1 - left_out], one[:, left_out, None]
            joined = np.vstack([np.maximum(before[:2], after[:2]), before[2:] + after[2:]])
            best[:, left_out:] = np.minimum(best[:, left_out:], joined)
        total = best
    seconds, floored, bytes_ = total[:, spare].tolist()
    bytes_ = max(0.0, bytes_ - 2 * grid.copies * grid.pipe)
    mean = bytes_ / float(speed.sum())
    return max(mean, seconds), max(mean, floored), bytes_


def _size(layout: Layout, kind: Group) -> int:
    sizes = {"tensor": layout.tensor, "context": layout.context, "copies": layout.copies, "pipeline": layout.pipeline}
    return sizes.get(kind, 2)


def _lowest(fabric: Fabric, size: int, layout: Layout, per_node: int) -> int:
    """The lowest level that a group must cross: how many of its members fit below the largest switch of each."""
    each = per_node if size == layout.tensor else max(1, per_node // layout.tensor)
    for level in range(len(fabric.levels)):
        room = each * (int(np.bincount(fabric.paths[level]).max()) if level < len(fabric.paths) else size)
        if size <= room:
            return level
    return len(fabric.levels) - 1
