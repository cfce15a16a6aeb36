"""Bytes on every link of a fabric, and the seconds that the most loaded ones take.

A message between two GPUs goes up from the sender's GPU link to the highest level where their paths meet, on the rail
of the sender, and down to the receiver on the receiver's rail. Links carry as much up as down at the same time. Groups
of one kind speak at the same time and their loads add up; the kinds follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from megatron_nlg.planning.communication import Group
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.traffic import KINDS, Algorithm, Exchange, Floats, Flows, Numbers, flows

UP, DOWN = 0, 1


@dataclass(frozen=True)
class Places:
    """Where ranks sit: the number of each one's node in the fabric, and of its GPU there."""

    node: Numbers
    gpu: Numbers

    @classmethod
    def on(cls, node: Numbers) -> Places:
        """With GPUs in the order of the ranks of each node, as SLURM numbers them locally."""
        order = np.argsort(node, kind="stable")
        _, first, count = np.unique(node[order], return_index=True, return_counts=True)
        gpu = np.empty(len(node), dtype=np.int64)
        gpu[order] = np.arange(len(node)) - np.repeat(first, count)
        return cls(node, gpu)


@dataclass(frozen=True)
class KindLoads:
    """Loads of one kind of groups in a step."""

    bytes: tuple[Floats, ...]
    """By level: [members, rails, 2] bytes up and down; of level 0 [nodes × GPUs, 1, 2]."""
    seconds: tuple[float, ...]
    """By level: of its most loaded link."""
    latency: float
    """Seconds that messages wait for the farthest, in all."""

    @property
    def total(self) -> float:
        """Seconds of a step."""
        return max(self.seconds) + self.latency


@dataclass(frozen=True)
class Loads:
    """Of all kinds."""

    kinds: Mapping[Group, KindLoads]

    @cached_property
    def seconds(self) -> float:
        """Of a step's communication when nothing hides it."""
        return sum(loads.total for loads in self.kinds.values())

    def level_seconds(self, level: int) -> float:
        """Of the most loaded links of a level, summed over kinds."""
        return sum(loads.seconds[level] for loads in self.kinds.values())

    def level_bytes(self, level: int) -> float:
        """That cross a level's links upwards in a step, all links together."""
        return float(sum(loads.bytes[level][:, :, UP].sum() for loads in self.kinds.values()))

    def links(self, level: int) -> Floats:
        """[members, rails, 2] bytes of all kinds."""
        found = np.zeros_like(next(iter(self.kinds.values())).bytes[level])
        for loads in self.kinds.values():
            found += loads.bytes[level]
        return found


def link_loads(fabric: Fabric, traffic: Flows, places: Places) -> tuple[Floats, ...]:
    """Bytes on every link by level: [members, rails, 2], of level 0 [nodes × GPUs, 1, 2]."""
    gpus = int(places.gpu.max(initial=0)) + 1
    width = max(gpus, fabric.gpus_per_node)
    card = places.node * width + places.gpu
    loads = [_level(card, np.zeros_like(card), traffic, len(fabric.nodes) * width, 1)]
    rails = np.arange(width)
    for level, path in enumerate(fabric.paths, 1):
        count = fabric.levels[level].rails
        rail = np.minimum(rails * count // max(fabric.gpus_per_node, 1), count - 1)[places.gpu]
        loads.append(_level(path[places.node], rail, traffic, len(fabric.members[level - 1]), count))
    return tuple(loads)


def _level(member: Numbers, rail: Numbers, traffic: Flows, members: int, rails: int) -> Floats:
    away = member[traffic.source] != member[traffic.target]
    amount = traffic.bytes[away]
    link = member * rails + rail
    up = np.bincount(link[traffic.source[away]], amount, members * rails)
    down = np.bincount(link[traffic.target[away]], amount, members * rails)
    return np.stack([up, down], axis=-1).reshape(members, rails, 2).astype(np.float64)


def kind_loads(fabric: Fabric, traffic: Flows, places: Places) -> KindLoads:
    """Loads and seconds of one kind's flows."""
    loads = link_loads(fabric, traffic, places)
    seconds = tuple(
        float((load.max(axis=(1, 2)) / fabric.bandwidth(level)).max(initial=0.0)) for level, load in enumerate(loads)
    )
    highest = max((level for level, load in enumerate(loads) if load.any()), default=None)
    return KindLoads(loads, seconds, traffic.rounds * fabric.latency(highest) if highest is not None else 0.0)


def step_loads(
    fabric: Fabric,
    exchanges: Sequence[Exchange],
    places: Places,
    algorithm: Algorithm = "ring",
    part: Numbers | None = None,
) -> Loads:
    """Loads of a whole step, see `traffic.flows` for the last two."""
    return Loads(
        {
            kind: kind_loads(fabric, flows(exchanges, kind, places.node, algorithm, part), places)
            for kind in KINDS
            if any(exchange.kind == kind for exchange in exchanges)
        }
    )
