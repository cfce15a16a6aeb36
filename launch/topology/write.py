"""A fabric in SLURM's words: topology.conf and topology.yaml, for a scheduler that does not know its switches yet."""

from __future__ import annotations

from collections.abc import Iterator

from megatron_nlg.config.hostlist import compact
from megatron_nlg.planning.fabric import Fabric

TOP = "top"


def topology_conf(fabric: Fabric) -> str:
    """The tree as topology.conf."""
    lines = [f"SwitchName={name} {kind}={hosts}" for name, kind, hosts in _switches(fabric)]
    return "\n".join([f"# {len(fabric.nodes)} nodes", *lines, ""])


def topology_yaml(fabric: Fabric, name: str = "fabric") -> str:
    """The tree as topology.yaml, which SLURM 25.05 and later read."""
    keys = {"Nodes": "nodes", "Switches": "children"}
    lines = [f"- topology: {name}", "  cluster_default: true", "  tree:", "    switches:"]
    for switch, kind, hosts in _switches(fabric):
        lines += [f'      - switch: "{switch}"', f'        {keys[kind]}: "{hosts}"']
    return "\n".join([*lines, ""])


def _switches(fabric: Fabric) -> Iterator[tuple[str, str, str]]:
    """(Name, Nodes or Switches, host list) of each switch, leaves first. The top's name is one that none has."""
    taken = {name for names in fabric.members for name in names}
    top = TOP
    while top in taken:
        top += "_"
    for k, names in enumerate(fabric.members):
        over = fabric.members[k + 1] if k + 1 < len(fabric.members) else (top,)
        above = fabric.above[k] if k < len(fabric.above) else (0,) * len(names)
        below: list[list[str]] = [[] for _ in over]
        for name, parent in zip(names, above, strict=True):
            below[parent].append(name)
        for switch, hosts in zip(over, below, strict=True):
            yield switch, "Switches" if k else "Nodes", compact(hosts)
