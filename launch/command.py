"""`megatron-nlg launch`: write, and submit, a SLURM batch job for a run config."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.slurm import Job
    from megatron_nlg.config.cluster import Cluster
    from megatron_nlg.config.schema import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `launch`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings laid over it, such as model.num_layers=4"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder; job.sbatch goes there too")
    parser.add_argument("--nodes", type=int, required=True, metavar="N", help="nodes of the job")
    parser.add_argument(
        "--ranks-per-node", type=int, metavar="R", help="ranks on each; the GPUs of a --cluster's node by default"
    )
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="cluster description, see configs/clusters")
    parser.add_argument("--partition", help="partition that the job goes to")
    parser.add_argument("--account", help="account that is charged")
    parser.add_argument("--time", help="time limit in SLURM's notation, such as 4:00:00 or 2-00:00:00")
    parser.add_argument(
        "--save-seconds",
        type=int,
        default=180,
        metavar="S",
        help="ranks save, and the job is queued again, this long before the time limit (default %(default)s)",
    )
    parser.add_argument("--submit", action="store_true", help="submit the job with sbatch")
    parser.add_argument("--print", action="store_true", help="print the script and write nothing")


def run(args: argparse.Namespace) -> int:
    """Check the config on nodes × ranks, then write, print or submit the script. Raises InputError on bad input."""
    from launch.slurm import batch_script, submit, write_script
    from megatron_nlg.config.cluster import load_cluster
    from megatron_nlg.config.errors import InputError
    from megatron_nlg.config.validate import load_config

    if args.print and args.submit:
        raise InputError("--print writes nothing and so nothing can be submitted: leave out --print or --submit")
    cluster = load_cluster(args.cluster) if args.cluster else None
    ranks_per_node = _ranks_per_node(args, cluster)
    config = load_config(args.config, args.overrides, args.nodes * ranks_per_node)
    _check_data(config)
    job = _job(args, config, cluster, ranks_per_node)
    if args.print:
        print(batch_script(job), end="")
        return 0
    if config.parallel.tensor > ranks_per_node or ranks_per_node % config.parallel.tensor:
        print(
            f"note: tensor groups of {config.parallel.tensor} span nodes of {ranks_per_node} ranks: their heavy "
            "traffic crosses the network",
            file=sys.stderr,
        )
    script = write_script(job)
    print(f"job {submit(script)} from {script}" if args.submit else f"{script}: submit it with sbatch")
    return 0


def _ranks_per_node(args: argparse.Namespace, cluster: Cluster | None) -> int:
    from megatron_nlg.config.errors import InputError

    given: int | None = args.ranks_per_node
    for option, value in (("--nodes", args.nodes), ("--ranks-per-node", given), ("--save-seconds", args.save_seconds)):
        if value is not None and value < 1:
            raise InputError(f"{option} {value}: at least 1 is expected")
    if cluster is None:
        if given is None:
            raise InputError("--ranks-per-node: needed without --cluster; one rank a GPU")
        return given
    if args.nodes > cluster.nodes:
        raise InputError(f"--nodes {args.nodes}: {cluster.name} has {cluster.nodes} ({args.cluster}: nodes)")
    if cluster.gpus_per_node == 0:
        return given or 1
    if given and given > cluster.gpus_per_node:
        raise InputError(
            f"--ranks-per-node {given}: a node of {cluster.name} has {cluster.gpus_per_node} GPUs, one for a rank "
            f"({args.cluster}: gpus_per_node)"
        )
    return given or cluster.gpus_per_node


def _check_data(config: RunConfig) -> None:
    """Find out now what would end the job hours later, when it leaves the queue."""
    from megatron_nlg.config.errors import InputError

    blend = config.data.blend
    if blend is None:
        raise InputError("data.blend: is required to train; give the prepared corpus as data.blend=CORPUS/blend.yaml")
    if not Path(blend).is_file():
        raise InputError(f"data.blend: {blend}: no such file in {Path.cwd()}; prepare it with `megatron-nlg prep run`")


def _job(args: argparse.Namespace, config: RunConfig, cluster: Cluster | None, ranks_per_node: int) -> Job:
    from launch.slurm import Job
    from megatron_nlg.config.cluster import Slurm
    from megatron_nlg.parallel.layout import Layout
    from megatron_nlg.planning.parameters import total_parameters

    slurm = cluster.slurm if cluster else Slurm()
    gpu_option = slurm.gpu_option if cluster and cluster.gpus_per_node else None
    layout = Layout.of(config.parallel, args.nodes * ranks_per_node)
    size = f"{total_parameters(config.model):,} parameters"
    return Job(
        config=args.config.resolve(),
        overrides=tuple(args.overrides),
        run=args.out.resolve(),
        nodes=args.nodes,
        ranks_per_node=ranks_per_node,
        summary=f"{args.config.name}: {size}, {layout} on {args.nodes} nodes × {ranks_per_node} ranks",
        # Not resolved: the virtual environment's python is a link, and is found by where it lies.
        python=Path(sys.executable).absolute(),
        directory=Path.cwd(),
        partition=args.partition or slurm.partition,
        account=args.account or slurm.account,
        time=args.time or slurm.time,
        gpu_option=gpu_option.format(gpus=ranks_per_node) if gpu_option else None,
        setup=slurm.setup,
        save_seconds=args.save_seconds,
    )
