"""`megatron-nlg plan`: a run before it starts. Its steps and memory (`predict.py`), and where its ranks sit.

Any option of placement asks for the latter: what the ranks' traffic costs on a cluster's links.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from launch import calibrate, predict, simulated

if TYPE_CHECKING:
    from launch.placement.report import Placement
    from megatron_nlg.config.cluster import Cluster
    from megatron_nlg.planning.fabric import Fabric


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `plan`."""
    calibrate.add_arguments(parser.add_argument_group("calibration"))
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="run config (YAML)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings laid over it, such as parallel.pipeline=4"
    )
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="see configs/clusters")
    parser.add_argument("--nodes", type=int, metavar="N", help="nodes that the run uses; the first ones by name")
    parser.add_argument("--ranks-per-node", type=int, metavar="R", help="ranks on each; its GPUs by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    predict.add_arguments(parser.add_argument_group("steps and memory, predicted"))
    simulated.add_arguments(parser.add_argument_group("a simulated step; any of these asks for it"))
    _add_placement(parser.add_argument_group("where ranks sit; any of these asks for it"))


def _add_placement(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--placement", action="store_true", help="search the best placement")
    group.add_argument("--topology", metavar="FILE", help="where nodes hang, any known format; `scontrol` asks SLURM")
    group.add_argument("--nodelist", metavar="HOSTS", help="nodes to use, as SLURM writes them: n[1-4,7]")
    group.add_argument(
        "--spares", type=int, default=0, metavar="K", help="nodes to leave out: K of --nodelist, or N + K are looked at"
    )
    group.add_argument("--show", action="store_true", help="print the cluster's links too")
    group.add_argument(
        "--picture", type=Path, action="append", default=[], metavar="FILE", help="draw it; .svg or .png"
    )
    group.add_argument("--hostfile", type=Path, metavar="FILE", help="write SLURM_HOSTFILE: a line a rank")
    group.add_argument("--ranks", type=Path, metavar="FILE", help="write the table of ranks; .json or .csv")
    group.add_argument("--traffic", type=Path, metavar="FILE", help="JSON: each level's bytes and seconds a step")


def run(args: argparse.Namespace) -> int:
    """Predict, or place and write files. Raises InputError on bad input."""
    from megatron_nlg.config.cluster import load_cluster

    if args.calibrate:
        return calibrate.run(args)
    _check(args)
    placing = ("placement", "topology", "nodelist", "spares", "show", "picture", "hostfile", "ranks", "traffic")
    if any(getattr(args, name) for name in placing):
        return _place(args)
    cluster = load_cluster(args.cluster)
    if simulated.asked(args):
        return simulated.run(args, cluster, _ranks_per_node(args, cluster))
    return predict.run(args, cluster, _ranks_per_node(args, cluster))


def _place(args: argparse.Namespace) -> int:
    """Print the placement and write its files."""
    from launch.placement.plan import write_file
    from launch.placement.report import place, tree
    from megatron_nlg.config.cluster import load_cluster
    from megatron_nlg.config.validate import load_config

    cluster = load_cluster(args.cluster)
    fabric = _fabric(args, cluster)
    per_node = _ranks_per_node(args, cluster)
    ranks = (len(fabric.nodes) - args.spares) * per_node
    config = load_config(args.config, args.overrides, ranks)
    placement = (
        place(config, fabric, ranks, per_node) if args.placement else place(config, fabric, ranks, per_node, None)
    )
    _print(args, placement, cluster)
    for picture in args.picture:
        from launch.placement.picture import draw

        write_file(picture, draw(placement, picture.suffix[1:]))
    if args.hostfile:
        write_file(args.hostfile, placement.plan.hostfile)
    if args.ranks:
        csv = args.ranks.suffix == ".csv"
        write_file(args.ranks, placement.plan.to_csv() if csv else placement.plan.to_json())
    if args.traffic:
        write_file(args.traffic, json.dumps({"cluster": cluster.name} | tree(placement), indent=2) + "\n")
    return 0


def _check(args: argparse.Namespace) -> None:
    from megatron_nlg.config.errors import InputError

    for name, value in (("CONFIG", args.config), ("--cluster FILE", args.cluster)):
        if value is None:
            raise InputError(f"{name}: is needed; only --calibrate goes without")
    if args.out:
        raise InputError(f"--out {args.out}: is what --calibrate writes; add it")
    for option, value, least in (
        ("--nodes", args.nodes, 1),
        ("--ranks-per-node", args.ranks_per_node, 1),
        ("--spares", args.spares, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"{option} {value}: at least {least} is expected")
    for option, path, suffixes in (
        *(("--picture", path, (".svg", ".png")) for path in args.picture),
        ("--ranks", args.ranks, (".json", ".csv")),
    ):
        if path is not None and path.suffix not in suffixes:
            raise InputError(f"{option} {path}: its name must end in {' or '.join(suffixes)}")
    if args.nodes and args.nodelist:
        raise InputError("--nodes and --nodelist: give one of the two; --spares K leaves K of the list out")
    if args.spares and not args.placement:
        raise InputError("--spares: which nodes to leave out is decided by --placement; add it")


def _ranks_per_node(args: argparse.Namespace, cluster: Cluster) -> int:
    from megatron_nlg.config.errors import InputError

    given: int | None = args.ranks_per_node
    if given and cluster.gpus_per_node and given > cluster.gpus_per_node:
        raise InputError(
            f"--ranks-per-node {given}: a node of {cluster.name} has {cluster.gpus_per_node} GPUs, one for a rank "
            f"({args.cluster}: gpus_per_node)"
        )
    return given or cluster.gpus_per_node or 1


def _fabric(args: argparse.Namespace, cluster: Cluster) -> Fabric:
    """The links of the nodes in question, those in SLURM's order: by name, numbers as numbers."""
    from launch.topology.build import build_fabric
    from launch.topology.read import read_topology
    from megatron_nlg.config.errors import InputError
    from megatron_nlg.config.hostlist import expand

    topology = read_topology(args.topology) if args.topology else None
    if args.nodelist:
        names = expand(args.nodelist)
        if len(names) <= args.spares:
            raise InputError(f"--spares {args.spares}: leaves none of the {len(names)} nodes of --nodelist")
        return build_fabric(cluster, topology, sorted(names, key=by_name))
    whole = build_fabric(cluster, topology)
    count = args.nodes + args.spares if args.nodes else len(whole.nodes)
    if not args.spares < count <= len(whole.nodes):
        wanted = f"--nodes {args.nodes} --spares {args.spares}" if args.nodes else f"--spares {args.spares}"
        raise InputError(f"{wanted}: {args.topology or args.cluster} has {len(whole.nodes)} nodes")
    return whole.only(sorted(whole.nodes, key=by_name)[:count])


def by_name(name: str) -> list[tuple[int, int, str]]:
    """To sort nodes by: n2 before n10."""
    import re

    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def _print(args: argparse.Namespace, placement: Placement, cluster: Cluster) -> None:
    from launch.placement.advice import advice, orders, splits
    from launch.placement.report import render, tree

    if args.json:
        from dataclasses import asdict

        found = {"cluster": cluster.name} | tree(placement)
        if args.placement:
            found["axis_orders"] = orders(placement)
            found["splits"] = [asdict(split) for split in splits(placement, cluster)]
            found["advice"] = list(advice(placement, cluster))
        found["placement"] = json.loads(placement.plan.to_json())
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if args.show:
        from launch.topology.describe import describe

        print(describe(placement.fabric), end="\n\n")
    print(render(placement, args.placement))
    for line in advice(placement, cluster) if args.placement else ():
        print(line)
