"""`megatron-nlg plan`, as far as it predicts: seconds and memory of a config's own layout, and of all others."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron_nlg.config.cluster import Cluster
    from megatron_nlg.planning.prediction import Prediction

STACKS = ("this", "megatron-lm-2021", "megatron-deepspeed-2022")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of predictions."""
    group.add_argument("--fixed", action="store_true", help="predict the config's own layout only")
    group.add_argument(
        "--stack", choices=STACKS, default="this", help="software that trains: this one, or a published one"
    )


def run(args: argparse.Namespace, cluster: Cluster, ranks_per_node: int) -> int:
    """Predict, and print. Raises InputError on bad input."""
    from megatron_nlg.config.errors import InputError
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.planning.prediction import as_tree, predict

    nodes = args.nodes or cluster.nodes
    if nodes > cluster.nodes:
        raise InputError(f"--nodes {nodes}: {cluster.name} has {cluster.nodes} ({args.cluster}: nodes)")
    ranks = nodes * ranks_per_node
    config = load_config(args.config, args.overrides, ranks)
    found = predict(config, cluster, ranks, ranks_per_node, args.stack)
    if args.json:
        print(json.dumps(as_tree(found), indent=2))
    else:
        print("\n".join(prediction_lines(found, cluster, nodes)))
    return 0


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
