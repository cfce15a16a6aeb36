"""`megatron-nlg topology`: what a file says of a cluster's fabric, and the same for SLURM."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.topology.model import Topology

LINES = 20
"""Switches that are shown before the rest is only counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `topology`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a file of any known format; `scontrol` asks SLURM, `srun` the nodes of this allocation",
    )
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="cluster description: show what the links can do")
    parser.add_argument(
        "--as",
        dest="form",
        choices=("conf", "yaml", "leaves"),
        help="print SLURM's topology.conf or .yaml of it, or the nodes of each leaf as JSON, for preflight",
    )


def run(args: argparse.Namespace) -> int:
    """Read the source and print it. Raises InputError."""
    from launch.topology.build import build_fabric
    from launch.topology.describe import describe
    from launch.topology.read import read_topology
    from launch.topology.write import leaves_json, switches_of, topology_conf, topology_yaml
    from megatron_nlg.config.cluster import load_cluster
    from megatron_nlg.config.errors import InputError

    topology = read_topology(args.source)
    fabric = build_fabric(load_cluster(args.cluster), topology) if args.cluster else None
    if args.form:
        switches = switches_of(fabric) if fabric else topology.switches
        if not switches:
            raise InputError(f"--as {args.form}: {topology.source} ({topology.format}) names no switches")
        print({"conf": topology_conf, "yaml": topology_yaml, "leaves": leaves_json}[args.form](switches), end="")
        return 0
    print(topology)
    print(describe(fabric) if fabric else _shown(topology))
    return 0


def _shown(topology: Topology) -> str:
    """The switches and what hangs on them, or the inside of a node; then the notes."""
    from megatron_nlg.config.hostlist import compact

    lines = []
    for name, below in topology.switches.items():
        up = f", {topology.uplinks[name]:g} GB/s up" if name in topology.uplinks else ""
        lines.append(f"  {name}: {compact(below)}{up}")
    domains: dict[str, list[str]] = {}
    for node, domain in topology.domains.items():
        domains.setdefault(domain, []).append(node)
    lines += [f"  {domain}: {compact(nodes)} share NVLink, or a block" for domain, nodes in domains.items()]
    if topology.machine:
        lines += _inside(topology)
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"  … {len(lines) - LINES} more"]
    return "\n".join([*lines, *(f"note: {note}" for note in topology.notes)])


def _inside(topology: Topology) -> list[str]:
    machine = topology.machine
    assert machine is not None
    lines = []
    for i, gpu in enumerate(machine.gpus):
        links = [link for j, link in enumerate(machine.links[i]) if j != i] if machine.links else []
        to = f": {', '.join(dict.fromkeys(links))} to the others" if links else ""
        near = [machine.nics[nic] for nic in machine.nearest[i]] if machine.nearest else []
        lines.append(f"  {gpu}{to}, {'nearest ' + ', '.join(near) if near else 'no adapter of its own'}")
    rates = (("GPU link", machine.gpu_gbs), ("PCI Express", machine.pcie_gbs), ("adapters", machine.nic_gbs))
    known = [f"{what} {gbs:.4g} GB/s" for what, gbs in rates if gbs is not None]
    return [*lines, f"  {', '.join(known)}"] if known else lines
