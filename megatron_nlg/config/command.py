"""`megatron-nlg check`: a run config resolved, its layout, size and memory, and every problem it has.

An entry point, and so the one module of this package that looks up to the layers above it; none of them imports torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `check`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings laid over it, such as model.num_layers=4"
    )
    parser.add_argument("--ranks", type=int, metavar="N", help="ranks to lay the model out on; one replica by default")
    parser.add_argument("--nodes", type=int, metavar="N", help="the same as nodes ...")
    parser.add_argument("--gpus-per-node", type=int, metavar="G", help="... of G ranks each")
    parser.add_argument("--json", action="store_true", help="write the report as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the report, or raise a ConfigError with every problem."""
    from megatron_nlg.config.summary import describe, render
    from megatron_nlg.config.validate import load_config, replica_ranks
    from megatron_nlg.data.labelled import with_epochs

    ranks = number_of_ranks(args.ranks, args.nodes, args.gpus_per_node)
    config = load_config(args.config, args.overrides, ranks)
    if config.data.classification and Path(config.data.classification.train).is_file():
        config = with_epochs(config)
    report = describe(config, ranks or replica_ranks(config))
    if args.json:
        import json

        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print(render(config, report))
    return 0


def number_of_ranks(ranks: int | None, nodes: int | None, gpus_per_node: int | None) -> int | None:
    """Ranks asked for, as a number or as nodes × GPUs; None when neither is given. Raises InputError."""
    from megatron_nlg.config.errors import InputError

    for option, value in (("--ranks", ranks), ("--nodes", nodes), ("--gpus-per-node", gpus_per_node)):
        if value is not None and value < 1:
            raise InputError(f"{option} {value}: at least 1 is expected")
    if nodes is None and gpus_per_node is None:
        return ranks
    if nodes is None or gpus_per_node is None:
        given, missing = ("--nodes", "--gpus-per-node") if gpus_per_node is None else ("--gpus-per-node", "--nodes")
        raise InputError(f"{given} needs {missing} too: ranks are nodes × GPUs in a node")
    if ranks is not None and ranks != nodes * gpus_per_node:
        raise InputError(
            f"--ranks {ranks} is not --nodes {nodes} × --gpus-per-node {gpus_per_node} = {nodes * gpus_per_node}; "
            "give one of the two"
        )
    return nodes * gpus_per_node
