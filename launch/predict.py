"""`megatron-nlg plan`, as far as it predicts: seconds and memory of a config's own layout, and of all others."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launch import outlook

if TYPE_CHECKING:
    from launch.outlook import Outlook
    from megatron_nlg.config.cluster import Cluster
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.planning.prediction import Prediction
    from megatron_nlg.planning.search import Search

STACKS = ("this", "megatron-lm-2021", "megatron-deepspeed-2022")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of predictions."""
    group.add_argument("--fixed", action="store_true", help="predict the config's own layout only")
    group.add_argument("--memory", type=float, metavar="GIB", help="of a rank, in place of the cluster's")
    group.add_argument(
        "--stack", choices=STACKS, default="this", help="software that trains: this one, or a published one"
    )
    group.add_argument("--html", type=Path, metavar="FILE", help="write one page with plots")
    outlook.add_arguments(group)


def run(args: argparse.Namespace, cluster: Cluster, ranks_per_node: int) -> int:
    """Predict, and print. Raises InputError on bad input."""
    from megatron_nlg.config.errors import InputError

    nodes = args.nodes or cluster.nodes
    if nodes > cluster.nodes:
        raise InputError(f"--nodes {nodes}: {cluster.name} has {cluster.nodes} ({args.cluster}: nodes)")
    if args.memory is not None and args.memory <= 0:
        raise InputError(f"--memory {args.memory:g}: GiB above 0 are expected")
    outlook.check(args)
    (_fixed if args.fixed else _search)(args, cluster, nodes, ranks_per_node)
    return 0


def _fixed(args: argparse.Namespace, cluster: Cluster, nodes: int, ranks_per_node: int) -> None:
    """The config's own layout."""
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.planning.prediction import as_tree, predict

    ranks = nodes * ranks_per_node
    config = _pretraining(load_config(args.config, args.overrides, ranks))
    found = predict(config, cluster, ranks, ranks_per_node, args.stack, args.memory)
    about = outlook.outlook(args, found, cluster, nodes)
    _write_page(args, cluster, found, about, None)
    if args.json:
        more = {"run": outlook.outlook_tree(about)} if outlook.asked(args) else {}
        print(json.dumps(as_tree(found) | more, indent=2))
    else:
        print("\n".join([*prediction_lines(found, cluster, nodes), *outlook.outlook_lines(about)]))


def _search(args: argparse.Namespace, cluster: Cluster, nodes: int, ranks_per_node: int) -> None:
    """All layouts. The config's own may be one that these ranks can't have."""
    from launch.ranking import search_lines, search_tree
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.planning.search import no_room, search

    ranks = nodes * ranks_per_node
    config = _pretraining(load_config(args.config, args.overrides))
    found = search(config, cluster, ranks, ranks_per_node, args.stack, args.memory)
    if not found.ranked:
        raise no_room(found)
    about = outlook.outlook(args, found.ranked[0], cluster, nodes)
    _write_page(args, cluster, found.ranked[0], about, found)
    if args.json:
        run = {"run": outlook.outlook_tree(about)}
        print(json.dumps({"nodes": nodes, "ranks": ranks} | search_tree(found, ranks) | run, indent=2))
        return
    where = (
        f"{nodes} nodes × {ranks_per_node} of {cluster.name} at {config.batch.global_:,} sequences, stack {args.stack}"
    )
    print("\n".join([*search_lines(found, where), *outlook.outlook_lines(about)]))


def _pretraining(config: RunConfig) -> RunConfig:
    """A config whose run can be predicted. Raises InputError."""
    from megatron_nlg.config.errors import InputError

    if config.task != "pretraining":
        raise InputError(f"task: {config.task}: plan predicts pretraining only; `check` says steps and memory of this")
    return config


def _write_page(
    args: argparse.Namespace, cluster: Cluster, found: Prediction, about: Outlook, others: Search | None
) -> None:
    if args.html is None:
        return
    from launch.page import plan_page
    from launch.placement.plan import write_file

    write_file(args.html, plan_page(f"{args.config.stem} on {cluster.name}", cluster, found, about, others))


def prediction_lines(found: Prediction, cluster: Cluster, nodes: int) -> Iterator[str]:
    """A prediction to read."""
    from megatron_nlg.planning.step import as_dict

    layout, parallel = found.layout, found.config.parallel
    extras = [f"recompute {parallel.recompute}", f"ZeRO-{parallel.zero_stage}"]
    if parallel.sequence:
        extras.append("sequence parallel")
    yield (
        f"{layout} on {nodes} nodes of {cluster.name}: {found.micro_batches} micro-batches of "
        f"{found.config.batch.micro}, {', '.join(extras)}; stack {found.stack}"
    )
    yield f"  step            {found.step_seconds:8.2f} s at {found.config.batch.global_:,} sequences"
    for part, seconds in as_dict(found.breakdown).items():
        yield f"    {part:<14}{seconds:8.2f} s  {seconds / found.step_seconds:6.1%}"
    yield f"  speed           {found.model_tflops:8.1f} TFLOP/s a GPU of the model's own operations" + _mfu(
        found, cluster
    )
    yield f"                  {found.tflops:8.1f} with recomputation, as papers count them"
    yield from memory_lines(found)


def memory_lines(found: Prediction) -> Iterator[str]:
    """The fullest stage's memory by part."""
    from dataclasses import asdict

    from megatron_nlg.planning.footprint import GIB

    room = f" of {found.memory_gib:g}" if found.memory_gib else ""
    verdict = "fits" if found.fits else "DOES NOT FIT"
    yield f"  memory          {found.peak_memory_gib:8.2f} GiB{room} on stage {found.fullest}: {verdict}"
    for part, size in asdict(found.stages[found.fullest]).items():
        yield f"    {part:<14}{size / GIB:8.2f} GiB"


def _mfu(found: Prediction, cluster: Cluster) -> str:
    return f" ({found.model_tflops / cluster.peak_tflops:.1%} of the peak)" if cluster.peak_tflops else ""
