"""An InfiniBand fabric as `ibnetdiscover` prints it: every switch, adapter and cable.

A fat tree has many ways up, and a `Topology` has one: switches that together serve the same hosts become one. Leaf
switches of a rail-optimised unit share their hosts, one adapter of each host on each leaf switch; the switches above
that are joined with the same units are one, too; and so on. What such a group sends up is the sum of its cables.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from launch.topology.model import Topology, find, listed, malformed, without_empty
from megatron_nlg.config.switches import Switches

LANE_GBITS = {"SDR": 2, "DDR": 4, "QDR": 8, "FDR10": 10, "FDR": 13.64, "EDR": 25, "HDR": 50, "NDR": 100, "XDR": 200}
"""Data rate of one lane, Gb/s: 4xNDR are 400."""
SAME_UNIT = 0.5
"""Leaf switches are of one unit when they share this part of the hosts of the smaller one; a few misplaced cables, or a
storage server on two units, join none."""

_HEAD = re.compile(r'(Switch|Ca|Rt)\s+\d+\s+"([^"]+)"\s*#\s*"([^"]*)"')
_PORT = re.compile(r'\[(\d+)\](?:\[[^\]]*\])?(?:\([^)]*\))?\s+"([^"]+)"\[(\d+)\](?:\([^)]*\))?\s*#\s*(.*?)\s*')
_SPEED = re.compile(r"(?:.*\s)?(\d+)x([A-Z]+\d*)")
_IGNORED = re.compile(
    r"\s*(#.*)?|(vendid|devid|sysimgguid|switchguid|caguid|rtguid|portguid)\s*=.*|DR path.*", re.DOTALL
)
_HOST = re.compile(r"(\S+) ((?:HCA-?|mlx|hfi|ib|qib|bnxt|rocep)\S*)")
_PLAIN_NAME = re.compile(r"(?:[A-Z]+\d*;)?([^:;\s]+)(?::\S*)?")
NO_NAMES = {"localhost", "(none)"}


class End(NamedTuple):
    """One end of a cable."""

    guid: str
    port: int


@dataclass
class Network:
    """What the file says."""

    switches: dict[str, str] = field(default_factory=dict)
    """GUID -> name."""
    adapters: dict[str, str] = field(default_factory=dict)
    """GUID -> description."""
    cables: dict[frozenset[End], float] = field(default_factory=dict)
    """Both ends -> GB/s. A cable is told twice, and is one; in a partial file, once."""


def parse_ibnetdiscover(text: str, source: str) -> Topology:
    """Read the output of `ibnetdiscover`. Raises InputError."""
    network = _read(text, source)
    notes: list[str] = []
    hosts = _hosts(network, notes)
    if not hosts:
        raise malformed(source, 1, "no host with a name", 'adapters described as "host mlx5_0" or "host HCA-1"')
    links = _links(network, hosts)
    if not links.hosts:
        raise malformed(source, 1, "no cable between a host and a switch", "the ports of switches or of adapters")
    groups = _units(network, links, notes)
    switches, uplinks = _tree(network, links, groups, notes)
    for host, ends in links.hosts.items():
        uplinks[host] = sum(gbs for _, gbs in ends)
    leaves = len({switch for ends in links.hosts.values() for switch, _ in ends})
    speeds = Counter(f"{8 * gbs:g} Gb/s" for gbs in network.cables.values())
    counted = ", ".join(f"{count} cables of {speed}" for speed, count in speeds.most_common())
    notes.insert(0, f"{len(network.switches)} switches, {leaves} of them leaf switches; {counted}")
    rails = Counter(len({switch for switch, _ in ends}) for ends in links.hosts.values()).most_common(1)[0][0]
    if few := [host for host, ends in links.hosts.items() if len(ends) < rails]:
        notes.append(f"{len(few)} hosts have fewer than {rails} adapters with their name: {listed(few)}")
    return Topology("ibnetdiscover", source, switches, {}, uplinks, rails, notes=tuple(notes))


def _read(text: str, source: str) -> Network:
    network = Network()
    current = ""
    far: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if head := _HEAD.match(line):
            kind, current, name = head.groups()
            (network.adapters if kind == "Ca" else network.switches)[current] = name
        elif port := _PORT.fullmatch(line):
            if not current:
                raise malformed(source, number, line, 'a line such as Switch 65 "S-…" # "name" before its ports')
            speed = _SPEED.fullmatch(port[4])
            if speed is None or speed[2] not in LANE_GBITS or not 0 < int(speed[1][:4]) <= 16:
                raise malformed(source, number, port[4], "a line that ends with a speed such as 4xNDR")
            if described := re.search(r'"([^"]*)"', port[4]):
                far[port[2]] = described[1]
            ends = frozenset({End(current, int(port[1][:9])), End(port[2], int(port[3][:9]))})
            network.cables[ends] = int(speed[1][:4]) * LANE_GBITS[speed[2]] / 8
        elif not _IGNORED.fullmatch(line):
            raise malformed(
                source, number, line, 'Switch, Ca or Rt with its name, or a port: [1] "S-…"[2] # "name" … 4xNDR'
            )
    # A partial file names what is on the far end of a cable, and may have no section of it.
    for ends in network.cables:
        for guid in sorted(end.guid for end in ends):
            if guid not in network.switches and guid not in network.adapters:
                kind = network.adapters if guid.startswith("H-") else network.switches
                kind[guid] = far.get(guid, guid)
    return network


def _hosts(network: Network, notes: list[str]) -> dict[str, str]:
    """Adapter -> its host, where its description names one that no other machine has."""
    named = {guid: match for guid, name in network.adapters.items() if (match := _HOST.fullmatch(name.strip()))}
    uses = Counter((match[1], match[2]) for match in named.values())
    shared = {host for (host, _), count in uses.items() if count > 1} | NO_NAMES
    hosts = {guid: match[1] for guid, match in named.items() if match[1] not in shared}
    unnamed = [name for guid, name in network.adapters.items() if guid not in hosts and "Aggregation" not in name]
    if unnamed:
        kinds = listed(f"{count} × {name!r}" for name, count in Counter(unnamed).most_common())
        notes.append(f"{len(unnamed)} adapters without a host of their own are left out: {kinds}")
    return hosts


@dataclass
class Links:
    """The cables, by what they join."""

    hosts: dict[str, list[tuple[str, float]]]
    """Host -> (leaf switch, GB/s) of each adapter."""
    switches: dict[str, dict[str, float]]
    """Switch -> neighbour switch -> GB/s of all cables between them."""
    edge: set[str]
    """Switches that adapters hang on, aggregation nodes of the switches themselves aside."""


def _links(network: Network, hosts: Mapping[str, str]) -> Links:
    links = Links({}, {guid: {} for guid in network.switches}, set())
    for ends, gbs in network.cables.items():
        guids = [end.guid for end in ends]
        one, other = guids if len(guids) == 2 else guids * 2
        if one in network.switches and other in network.switches:
            if one != other:
                for near, far in ((one, other), (other, one)):
                    links.switches[near][far] = links.switches[near].get(far, 0.0) + gbs
            continue
        adapter, switch = (one, other) if one in network.adapters else (other, one)
        if switch in network.switches:
            if "Aggregation" not in network.adapters[adapter]:
                links.edge.add(switch)
            if adapter in hosts:
                links.hosts.setdefault(hosts[adapter], []).append((switch, gbs))
    return links


def _units(network: Network, links: Links, notes: list[str]) -> list[dict[str, str]]:
    """Switch -> its group, at the leaf level and at each one above, until nothing is joined any more."""
    edge = sorted(links.edge)  # the same file gives the same order
    below: dict[str, set[str]] = {guid: set() for guid in edge}
    for host, ends in links.hosts.items():
        for switch, _ in ends:
            below[switch].add(host)
    union = {guid: guid for guid in edge}
    pairs: Counter[tuple[str, str]] = Counter()
    for ends in links.hosts.values():
        leaves = sorted({switch for switch, _ in ends})
        pairs.update((one, other) for i, one in enumerate(leaves) for other in leaves[i + 1 :])
    for (one, other), shared in pairs.items():
        if shared >= SAME_UNIT * min(len(below[one]), len(below[other])):
            union[find(union, one)] = find(union, other)
    groups = [{guid: find(union, guid) for guid in edge}]
    while added := {far for near in groups[-1] for far in links.switches[near] if far not in groups[-1]}:
        union |= {guid: guid for guid in sorted(added)}
        for guid in sorted(added):
            for near in links.switches[guid]:
                if near in groups[-1]:
                    union[find(union, guid)] = find(union, near)
        groups.append({guid: find(union, guid) for guid in union})
    if apart := len(network.switches) - len(groups[-1]):
        notes.append(f"{apart} switches lead to no host and are left out")
    return groups


def _tree(
    network: Network, links: Links, groups: list[dict[str, str]], notes: list[str]
) -> tuple[Switches, dict[str, float]]:
    """The groups of each level, hosts in the unit where most of their adapters are, and what each group sends up."""
    names: list[dict[str, str]] = []
    taken: set[str] = set()
    for i, level in enumerate(groups):
        members: dict[str, list[str]] = {}
        for guid, group in level.items():
            if i == 0 or guid not in groups[i - 1]:
                members.setdefault(group, []).append(guid)
        names.append(
            {group: _name(members.get(group, [group]), network, taken) for group in sorted(set(level.values()))}
        )
    below: dict[str, list[str]] = {name: [] for level in names for name in level.values()}
    for i in range(1, len(groups)):
        for group in dict.fromkeys(groups[i - 1].values()):
            below[names[i][groups[i][group]]].append(names[i - 1][group])
    strays = []
    for host, ends in links.hosts.items():
        units = Counter(groups[0][switch] for switch, _ in ends)
        below[names[0][units.most_common(1)[0][0]]].append(host)
        if len(units) > 1:
            strays.append(host)
    if strays:
        notes.append(
            f"{len(strays)} hosts have adapters in several units, and count to the one with most: {listed(strays)}"
        )
    uplinks: dict[str, float] = {}
    for i, level in enumerate(groups):
        for guid, group in level.items():
            name = names[i][group]
            up = sum(gbs for far, gbs in links.switches[guid].items() if far not in level)
            uplinks[name] = uplinks.get(name, 0.0) + up
    in_order = {name: sorted(below[name]) for level in names for name in sorted(level.values())}
    return without_empty(in_order), {name: gbs for name, gbs in uplinks.items() if gbs > 0}


def _name(members: Iterable[str], network: Network, taken: set[str]) -> str:
    """The name of a group of switches: of its first, and how many more there are."""
    plain = []
    for guid in members:
        match = _PLAIN_NAME.fullmatch(network.switches[guid].strip())
        plain.append(match[1] if match else guid)
    plain.sort()
    name = plain[0] if len(plain) == 1 else f"{plain[0]}+{len(plain) - 1}"
    while name in taken or "[" in name or "]" in name or "," in name:
        name = re.sub(r"[\[\],]", "_", name) + "'"
    taken.add(name)
    return name
