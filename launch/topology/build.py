"""A `Fabric` of a cluster description (what links can do) and a topology (who hangs where)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from launch.topology.model import Machine, Topology, listed
from launch.topology.nvidia_smi import gpu_bandwidth
from megatron_nlg.config.cluster import Cluster, Level
from megatron_nlg.config.errors import ConfigError, InputError, Problem
from megatron_nlg.config.switches import Switches, expand_switches, parents_of
from megatron_nlg.planning.fabric import Fabric, regular_fabric

NVLINK_OF = ((r"B[23]00", 5), (r"H[128]00|GH200", 4), (r"A[18]00|A30\b", 3), (r"V100", 2), (r"P100", 1))
"""Accelerator -> its generation of NVLink."""
PCIE_OF = ((r"B[23]00", 6), (r"H[128]00|GH200|RTX (PRO|50)", 5), (r"A\d+|L\d+|RTX [34]", 4))
"""Accelerator -> its generation of PCI Express; 3 for others."""


def build_fabric(cluster: Cluster, topology: Topology | None = None, nodes: Sequence[str] | None = None) -> Fabric:
    """The links of a cluster's nodes, or of the nodes named, in that order.

    The tree is the topology's; without one, that of the cluster's switches, else the regular one of its levels' sizes
    (node1, node2, …). Raises InputError for nodes that are not in it or named twice, ConfigError for missing levels.
    """
    if not cluster.levels:
        problem = Problem(
            "levels", "is required to place ranks", "describe the links, as configs/clusters/selene.yaml does"
        )
        raise ConfigError([problem], cluster.name)
    notes = list(topology.notes) if topology else []
    levels = _levels(cluster, topology, notes)
    if topology and topology.nodes:
        fabric = _tree(cluster, levels, topology, notes)
    elif cluster.switches is not None:
        fabric = _tree(cluster, levels, Topology("switches", cluster.name, expand_switches(cluster.switches)), notes)
    else:
        fabric = regular_fabric(cluster.model_copy(update={"levels": levels}))
    fabric = replace(fabric, notes=tuple(dict.fromkeys(notes)))
    if nodes is None:
        return fabric
    named = bool(topology and topology.nodes) or cluster.switches is not None
    mend = "" if named else "; it names no nodes itself: give --topology, or switches in the description"
    return _only(fabric, nodes, topology.source if topology and topology.nodes else cluster.name, mend)


def _only(fabric: Fabric, nodes: Sequence[str], source: str, mend: str) -> Fabric:
    known = set(fabric.nodes)
    if unknown := [name for name in nodes if name not in known]:
        has = f"it has {len(known)}, such as {listed(fabric.nodes[:3])}"
        raise InputError(f"{source}: nodes that are not in it: {listed(unknown)}; {has}{mend}")
    if twice := [name for name, count in Counter(nodes).items() if count > 1]:
        raise InputError(f"nodes given twice: {listed(twice)}")
    return fabric.only(nodes)


def _levels(cluster: Cluster, topology: Topology | None, notes: list[str]) -> tuple[Level, ...]:
    """The cluster's levels, with the rails and bandwidths that the topology measured or saw."""
    levels = list(cluster.levels)
    machine = topology.machine if topology else None
    if topology and machine:
        if cluster.gpus_per_node and len(machine.gpus) != cluster.gpus_per_node:
            raise InputError(
                f"{topology.source}: describes a node of {len(machine.gpus)} GPUs, and {cluster.name} has nodes of "
                f"{cluster.gpus_per_node} (gpus_per_node)"
            )
        levels[0] = _changed(levels[0], "bandwidth_gbs", _gpu_gbs(machine, cluster), topology.source, notes)
        if cluster.nvlink_domain is None:
            levels[1] = _changed(levels[1], "bandwidth_gbs", machine.nic_gbs, topology.source, notes)
    rails = topology.rails if topology else None
    if topology and rails is not None and rails <= max(cluster.gpus_per_node, 1):
        # The inside of a node says nothing about the switches, whose rails end where adapters share a leaf switch.
        # Adapters begin at the node's link, or above the NVLink domain that nodes share.
        first = 1 if cluster.nvlink_domain is None else 2
        for i in range(first, first + 1 if machine else len(levels)):
            levels[i] = _changed(levels[i], "rails", rails, topology.source, notes)
    elif rails is not None:
        notes.append(f"{rails} adapters of a node are more than its GPUs: the description's rails stay")
    return tuple(levels)


def _changed(level: Level, key: str, value: float | None, source: str, notes: list[str]) -> Level:
    old = getattr(level, key)
    if value is None or value == old:
        return level
    notes.append(f"{level.name}: {key} {value:g} as in {source}, not {old:g} as described")
    return level.model_copy(update={key: value})


def _gpu_gbs(machine: Machine, cluster: Cluster) -> float | None:
    """What a GPU sends to others of its node; None where neither file nor accelerator's name says it."""
    if machine.gpu_gbs is not None:
        return machine.gpu_gbs
    name = cluster.accelerator or ""
    nvlink = next((generation for pattern, generation in NVLINK_OF if re.search(pattern, name)), None)
    pcie = next((generation for pattern, generation in PCIE_OF if re.search(pattern, name)), 3)
    if any(link.startswith("NV") for row in machine.links for link in row) and nvlink is None:
        return None
    return gpu_bandwidth(machine, nvlink or 1, pcie)


def _tree(cluster: Cluster, levels: tuple[Level, ...], topology: Topology, notes: list[str]) -> Fabric:
    """Nodes and switches by their height above the nodes; gaps are bridged by pseudo-switches, marked with a star."""
    switches = _with_domains(cluster, topology, notes)
    uplinks_known = dict(topology.uplinks)
    if cluster.nvlink_domain is not None:
        _adapters_of_domains(switches, uplinks_known)
    tree = _Tree(switches, uplinks_known, notes)
    members, above = tree.levelled(levels[1].bandwidth_gbs)
    levels = _enough(levels, len(members), tree, notes)
    uplinks = []
    for level, names in zip(levels[1:], members, strict=True):
        known = [tree.uplinks.get(name) for name in names]
        own = tuple(level.bandwidth_gbs if gbs is None else gbs for gbs in known)
        uplinks.append(own if any(gbs != level.bandwidth_gbs for gbs in own) else None)
    return Fabric(levels, cluster.gpus_per_node or 1, members, above, tuple(uplinks))


def _adapters_of_domains(switches: Switches, uplinks: dict[str, float]) -> None:
    """What nodes send by their adapters is what their NVLink domain sends: their own links are NVLink."""
    for name, below in switches.items():
        nodes = [each for each in below if each not in switches]
        known = [uplinks.pop(node) for node in nodes if node in uplinks]
        if known and len(known) == len(nodes):
            uplinks[name] = min(sum(known), uplinks.get(name, float("inf")))


def _enough(levels: tuple[Level, ...], links: int, tree: _Tree, notes: list[str]) -> tuple[Level, ...]:
    """The GPU's level and one for each level of links; the topmost is repeated for a deeper tree."""
    if len(levels) > links:
        return levels[: links + 1]
    top = levels[-1]
    unknown = [name for name in tree.switches if name not in tree.uplinks and name in tree.parent]
    if len(levels) == 2 and unknown:
        message = f"end at the {top.name}, and switches such as {unknown[0]} have links up"
        raise ConfigError(
            [Problem("levels", message, "describe the link of a leaf switch as a third level")], "cluster"
        )
    notes.append(
        f"the tree has {links} levels of links, and {len(levels) - 1} are described: {top.name}'s is repeated; "
        "describe the levels above to say what they carry"
    )
    more = (top.model_copy(update={"name": f"{top.name}{i}"}) for i in range(2, links - len(levels) + 3))
    return (*levels, *more)


def _with_domains(cluster: Cluster, topology: Topology, notes: list[str]) -> Switches:
    """The topology's switches, with NVLink domains between nodes and leaves where the cluster has such a level."""
    domains = dict(topology.domains)
    if cluster.nvlink_domain is None and topology.switches:
        if domains:
            notes.append("NVLink domains are left out: the cluster description names no level of them (nvlink_domain)")
        return topology.switches
    if not domains:
        notes.append(
            f"no NVLink domains in {topology.source}: its lowest switches are taken for a {cluster.nvlink_domain} each"
        )
        return topology.switches
    return insert_domains(topology.switches, domains, notes)


def insert_domains(switches: Switches, domains: Mapping[str, str], notes: list[str]) -> Switches:
    """Hang nodes on their domains, and each domain on the switch that its nodes hung on.

    A tree has no place for a domain on several switches: it becomes one a switch, as if NVLink ended there.
    """
    parents = {each: above[0] for each, above in parents_of(switches).items()}
    on: dict[str, dict[str | None, list[str]]] = {}
    for node, domain in domains.items():
        on.setdefault(domain, {}).setdefault(parents.get(node), []).append(node)
    if wide := [domain for domain, parts in on.items() if len(parts) > 1]:
        notes.append(f"NVLink domains on several switches: {listed(wide)}; each is taken as one a switch")
    out = {name: list(below) for name, below in switches.items()}
    for domain, parts in on.items():
        for switch, nodes in parts.items():
            name = domain if len(parts) == 1 else f"{domain}@{switch}"
            while name in out or name in parents:
                name += "'"
            out[name] = nodes
            if switch is not None:
                gone = set(nodes)
                out[switch] = [*(each for each in out[switch] if each not in gone), name]
    return {name: tuple(below) for name, below in out.items()}


class _Tree:
    """Trees of switches made one tree whose nodes all have the same depth."""

    def __init__(self, switches: Switches, uplinks: Mapping[str, float], notes: list[str]):
        self.switches = dict(switches)
        self.uplinks = dict(uplinks)
        self.parent = {each: above[0] for each, above in parents_of(switches).items()}
        tops = [name for name in switches if name not in self.parent]
        if len(tops) > 1:
            notes.append(f"{len(tops)} parts that nothing joins in the topology: taken as joined at the top")
            self._add(self._name("root"), tops)
            tops = [next(reversed(self.switches))]
        # Nothing but the links below it crosses a switch on which one other switch hangs, at the very top.
        while len(below := self.switches[tops[0]]) == 1 and below[0] in self.switches:
            del self.switches[tops[0]], self.parent[below[0]]
            tops = [below[0]]
        self.top = tops[0]
        self.notes = notes

    def _name(self, name: str) -> str:
        while name in self.switches or name in self.parent:
            name += "*"
        return name

    def _add(self, name: str, below: Sequence[str]) -> None:
        self.switches[name] = tuple(below)
        self.parent |= dict.fromkeys(below, name)

    def levelled(self, node_gbs: float) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[int, ...], ...]]:
        """(Members of each level from the nodes up to below the top, which one above each hangs on)."""
        height = self._heights()
        pseudo: list[str] = []
        for name, below in list(self.switches.items()):
            parts = [each for each in below if each in self.switches]
            nodes = [each for each in below if each not in self.switches]
            if nodes and height[name] > 1:
                leaf = self._name(f"{name}*")
                self._add(leaf, nodes)
                self.uplinks[leaf] = sum(self.uplinks.get(node, node_gbs) for node in nodes)
                height[leaf] = 1
                parts.append(leaf)
                pseudo.append(leaf)
                nodes = []
            lifted = [self._lifted(each, height[name] - 1, height, pseudo) for each in parts]
            self._add(name, [*lifted, *nodes])
        if pseudo:
            self.notes.append(f"nodes hang at different depths: {listed(pseudo)} are no switches and limit nothing")
        return self._members(height[self.top])

    def _lifted(self, name: str, wanted: int, height: dict[str, int], pseudo: list[str]) -> str:
        """The topmost of as many pseudo-switches above a switch as lift it to a height."""
        while height[name] < wanted:
            bridge = self._name(f"{name}*")
            self._add(bridge, [name])
            height[bridge] = height[name] + 1
            if name in self.uplinks:
                self.uplinks[bridge] = self.uplinks[name]
            pseudo.append(bridge)
            name = bridge
        return name

    def _heights(self) -> dict[str, int]:
        """Node or switch -> links on the longest way down to a node; from the nodes up."""
        order = [self.top]
        for name in order:
            order += self.switches.get(name, ())
        height: dict[str, int] = {}
        for name in reversed(order):
            height[name] = 1 + max((height[each] for each in self.switches.get(name, ())), default=-1)
        return height

    def _members(self, depth: int) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[int, ...], ...]]:
        rows: list[list[str]] = [[self.top]]
        for _ in range(depth):
            rows.append([each for name in rows[-1] for each in self.switches[name]])
        members = tuple(tuple(row) for row in reversed(rows[1:]))
        above = []
        for names, over in pairwise(members):
            number = {name: i for i, name in enumerate(over)}
            above.append(tuple(number[self.parent[name]] for name in names))
        return members, tuple(above)
