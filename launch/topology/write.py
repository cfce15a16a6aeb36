"""A tree in SLURM's words: topology.conf and topology.yaml, for a scheduler that does not know its switches yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from megatron_nlg.config.hostlist import compact
from megatron_nlg.config.switches import Switches
from megatron_nlg.planning.fabric import Fabric

TOP = "top"


def topology_conf(switches: Mapping[str, Sequence[str]]) -> str:
    """The tree as topology.conf."""
    return "".join(f"SwitchName={name} {kind}={hosts}\n" for name, kind, hosts in _lines(switches))


def topology_yaml(switches: Mapping[str, Sequence[str]], name: str = "fabric") -> str:
    """The tree as topology.yaml, which SLURM 25.05 and later read."""
    keys = {"Nodes": "nodes", "Switches": "children"}
    lines = [f"- topology: {name}", "  cluster_default: true", "  tree:", "    switches:"]
    for switch, kind, hosts in _lines(switches):
        lines += [f'      - switch: "{switch}"', f'        {keys[kind]}: "{hosts}"']
    return "\n".join([*lines, ""])


def leaves_json(switches: Mapping[str, Sequence[str]]) -> str:
    """Nodes by the switch that they hang on, as `megatron-nlg preflight --leaves` reads them."""
    nodes = {name: [node for node in below if node not in switches] for name, below in switches.items()}
    return json.dumps({name: found for name, found in nodes.items() if found}) + "\n"


def _lines(switches: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    """(Switch, Nodes or Switches, host list): SLURM allows no switch both, so nodes beside switches get their own."""
    for name, below in switches.items():
        nodes = [each for each in below if each not in switches]
        over = [each for each in below if each in switches]
        if nodes and over:
            own = f"{name}_nodes"
            while own in switches:
                own += "_"
            over.append(own)
            yield own, "Nodes", compact(nodes)
        kind, hosts = ("Switches", over) if over else ("Nodes", nodes)
        yield compact([name]), kind, compact(hosts)  # refuses a switch's name that SLURM could not read


def switches_of(fabric: Fabric) -> Switches:
    """A fabric's tree, leaves first; its top gets a name that no other switch has."""
    taken = {name for names in fabric.members for name in names}
    top = TOP
    while top in taken:
        top += "_"
    below: dict[str, list[str]] = {}
    for k, names in enumerate(fabric.members):
        over = fabric.members[k + 1] if k + 1 < len(fabric.members) else (top,)
        above = fabric.above[k] if k < len(fabric.above) else (0,) * len(names)
        below |= {name: [] for name in over}
        for name, parent in zip(names, above, strict=True):
            below[over[parent]].append(name)
    return {name: tuple(under) for name, under in below.items()}
