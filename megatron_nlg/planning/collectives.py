"""Seconds of collectives and messages on a cluster whose ranks lie in their natural order, block by block on its nodes.

Latency and bandwidth of each level; a ring's bytes cross every node's and every leaf's link once, and groups that work
at the same time share links. For a real allocation and its best placement see the traffic model (`traffic.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from megatron_nlg.config.cluster import Cluster, Level
from megatron_nlg.planning.communication import Operation, share_sent
from megatron_nlg.planning.fabric import GIGA, MICRO


@dataclass(frozen=True)
class Peers:
    """Groups of ranks 0, stride, 2·stride, …, shifted: all groups of one kind do the same at the same time."""

    ranks: int
    stride: int

    @property
    def reach(self) -> int:
        """Ranks from the first member to behind the last."""
        return self.ranks * self.stride


def collective_seconds(cluster: Cluster, operation: Operation, size: float, peers: Peers) -> float:
    """Of one call on `size` bytes (the whole buffer), by a ring."""
    if peers.ranks == 1 or not size:
        return 0.0
    sent = share_sent(operation, peers.ranks) * size
    steps = (2 if operation == "all_reduce" else 1) * (peers.ranks - 1)
    return max(
        (sent * _groups(cluster, k, peers) / _rate(level) + steps * level.latency_us * MICRO)
        * level.operations.get(operation, 1.0)
        for k, level in enumerate(cluster.levels)
        if k == 0 or peers.reach > _below(cluster, k)
    )


def message_seconds(cluster: Cluster, size: float, peers: Peers) -> float:
    """Of a message from each member to the next, which all send at the same time."""
    if peers.ranks == 1 or not size:
        return 0.0
    return max(
        (size * min(peers.stride, _below(cluster, k)) / _rate(level) + level.latency_us * MICRO)
        * level.operations.get("send", 1.0)
        for k, level in enumerate(cluster.levels)
        if k == 0 or peers.reach > _below(cluster, k)
    )


def _rate(level: Level) -> float:
    return level.bandwidth_gbs * GIGA * level.efficiency


def _below(cluster: Cluster, k: int) -> int:
    """Ranks below one link of level `k`."""
    sizes = [level.size or cluster.nodes for level in cluster.levels[2 : k + 1]]
    return math.prod(sizes, start=max(cluster.gpus_per_node, 1) if k else 1)


def _groups(cluster: Cluster, k: int, peers: Peers) -> float:
    """Groups whose rings cross one link of level `k`."""
    below = _below(cluster, k)
    return below / min(peers.ranks, max(1, below // peers.stride))
