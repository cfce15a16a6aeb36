"""The fabric that ranks are placed on: nodes in a tree of switches, each link with its bandwidth and latency.

Level 0 are the links of GPUs into their node, level 1 those of nodes, level 2 those of leaf switches, and so on up to
what hangs on the root. A tree of any depth and unevenness is told by the members of each level: `fabric.above[k][i]`
is the number of the level-(k+1) switch on which the i-th member of level k hangs; members of the last level hang on
the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from megatron_nlg.config.cluster import Cluster, Level

Numbers = npt.NDArray[np.int64]
GIGA, MICRO = 1e9, 1e-6


@dataclass(frozen=True)
class Fabric:
    """A tree of links. Immutable; `only` gives a part of it."""

    levels: tuple[Level, ...]
    """From the GPUs' links up."""
    gpus_per_node: int
    members: tuple[tuple[str, ...], ...]
    """Names of the nodes, of the leaf switches, …: those of `levels[1:]`."""
    above: tuple[tuple[int, ...], ...]
    """For each level of `members` but the last: the number of the switch that each member hangs on."""
    uplinks: tuple[tuple[float, ...] | None, ...] = ()
    """Bandwidth of each member's own link in GB/s, for levels of `members` where they differ from the level's."""
    notes: tuple[str, ...] = ()
    """What was assumed to make it of a cluster description and a topology, for people."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes."""
        return self.members[0]

    @cached_property
    def paths(self) -> Numbers:
        """[levels - 1, nodes]: the member of each level (node, leaf, …) whose link a node's traffic goes up by."""
        rows = [np.arange(len(self.nodes))]
        for above in self.above:
            rows.append(np.asarray(above, dtype=np.int64)[rows[-1]])
        return np.stack(rows)

    def bandwidth(self, level: int) -> npt.NDArray[np.float64]:
        """Bytes per second that large messages reach, of one rail of each link of a level; one value for the GPUs'."""
        at = self.levels[level]
        own = self.uplinks[level - 1] if level and self.uplinks else None
        count = len(self.members[level - 1]) if level else 1
        whole = np.asarray(own) if own is not None else np.full(count, at.bandwidth_gbs)
        return whole * GIGA * at.efficiency / at.rails

    def rail(self, level: int, gpu: int) -> int:
        """The rail of a level that a node's GPU uses."""
        return gpu * self.levels[level].rails // max(self.gpus_per_node, 1)

    def meets(self, one: int, other: int) -> int:
        """The highest level whose links a message between two nodes crosses; 0 within a node."""
        differ = self.paths[:, one] != self.paths[:, other]
        return int(differ.sum())

    def latency(self, level: int) -> float:
        """Seconds of a message whose highest links are a level's."""
        return self.levels[level].latency_us * MICRO

    def only(self, names: Sequence[str]) -> Fabric:
        """The fabric of some of the nodes, in that order; switches without a node are left out. Raises KeyError."""
        index = {name: i for i, name in enumerate(self.nodes)}
        keep = [index[name] for name in names]
        members, above, uplinks = [], [], []
        for k, names_of_level in enumerate(self.members):
            members.append(tuple(names_of_level[i] for i in keep))
            own = self.uplinks[k] if self.uplinks else None
            uplinks.append(tuple(own[i] for i in keep) if own is not None else None)
            if k < len(self.above):
                parents = [self.above[k][i] for i in keep]
                keep = list(dict.fromkeys(parents))
                number = {parent: i for i, parent in enumerate(keep)}
                above.append(tuple(number[parent] for parent in parents))
        return Fabric(self.levels, self.gpus_per_node, tuple(members), tuple(above), tuple(uplinks), self.notes)


def regular_fabric(cluster: Cluster, nodes: int | None = None) -> Fabric:
    """The first nodes of a cluster whose tree is told by its levels' sizes, node1, node2, …"""
    count = nodes or cluster.nodes
    members, above = [tuple(f"node{i + 1}" for i in range(count))], []
    for level in cluster.levels[2:]:
        size = level.size or count
        above.append(tuple(i // size for i in range(len(members[-1]))))
        members.append(tuple(f"{level.name}{i + 1}" for i in range(above[-1][-1] + 1)))
    return Fabric(cluster.levels, cluster.gpus_per_node or 1, tuple(members), tuple(above))
