"""`megatron-nlg launch`: write, and submit, a batch job for a run config, or a script for nodes without SLURM."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.job import Container, Fabric, Job
    from megatron_nlg.config.cluster import Cluster
    from megatron_nlg.config.schema import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `launch`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings laid over it, such as model.num_layers=4"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder; the script goes there too")
    parser.add_argument("--nodes", type=int, metavar="N", help="nodes of the job; those of --hosts by default")
    parser.add_argument(
        "--ranks-per-node", type=int, metavar="R", help="ranks on each; the GPUs of a --cluster's node by default"
    )
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="cluster description, see configs/clusters")
    parser.add_argument("--print", action="store_true", help="print the script and write nothing")
    _add_placement(parser.add_argument_group("placement, decided by each job for the nodes that it gets"))
    _add_slurm(parser.add_argument_group("the SLURM job"))
    _add_ranks(parser.add_argument_group("how ranks are started"))
    parser.epilog = "`megatron-nlg launch status RUN` says how a run is doing; exit codes of jobs: docs/launch.md"


def _add_placement(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--topology", metavar="FILE", help="place ranks by their traffic on this fabric; `scontrol` asks SLURM for it"
    )
    group.add_argument("--switches", metavar="N[@TIME]", help="most leaf switches to use; wait TIME for so few")
    group.add_argument("--segment", type=int, metavar="N", help="nodes that must share a block (block topology)")
    group.add_argument("--preflight", action="store_true", help="test all nodes before training")
    group.add_argument(
        "--spares", type=int, default=0, metavar="K", help="ask for K more nodes, and train without the worst ones"
    )


def _add_slurm(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--submit", action="store_true", help="submit the job with sbatch")
    group.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="submit a chain of N jobs; one that finds the run done ends"
    )
    group.add_argument("--partition", help="partition that the job goes to")
    group.add_argument("--account", help="account that is charged")
    group.add_argument("--time", help="time limit in SLURM's notation, such as 4:00:00 or 2-00:00:00")
    group.add_argument(
        "--save-seconds",
        type=int,
        default=180,
        metavar="S",
        help="ranks save, and the job is queued again, this long before the time limit (default %(default)s)",
    )
    group.add_argument(
        "--max-requeues", type=int, default=10, metavar="N", help="times a job is queued again (default %(default)s)"
    )


def _add_ranks(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--launcher", choices=("srun", "torchrun", "deepspeed"), default="srun", help="default %(default)s"
    )
    group.add_argument(
        "--hosts",
        type=Path,
        metavar="FILE",
        help="without SLURM: nodes that ssh reaches, one a line (torchrun, deepspeed)",
    )
    group.add_argument("--container", metavar="IMAGE", help="run ranks in this image, with megatron-nlg on its PATH")
    group.add_argument(
        "--container-runtime", choices=("pyxis", "apptainer"), default="pyxis", help="default %(default)s"
    )
    group.add_argument(
        "--mount",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a further folder that the image is to see",
    )


def run(args: argparse.Namespace) -> int:
    """Check the config on nodes × ranks, then write, print or submit the script. Raises InputError on bad input."""
    from launch.hosts import host_script, hostfile, read_hosts
    from launch.slurm import batch_script
    from launch.submit import submit, write_script
    from megatron_nlg.config.cluster import load_cluster
    from megatron_nlg.config.errors import InputError
    from megatron_nlg.planning.fit import load_fitting, room_of

    _check_options(args)
    cluster = load_cluster(args.cluster) if args.cluster else None
    hosts = read_hosts(args.hosts) if args.hosts else []
    nodes = args.nodes or len(hosts)
    if hosts and nodes != len(hosts):
        raise InputError(f"--nodes {nodes}: {args.hosts} names {len(hosts)}; leave --nodes out, or change the file")
    ranks_per_node = _ranks_per_node(args, nodes, cluster)
    room = room_of(cluster, ranks_per_node) if cluster else None
    config = load_fitting(args.config, args.overrides, nodes * ranks_per_node, room)
    _check_data(config)
    job = _job(args, config, cluster, nodes, ranks_per_node)
    text = host_script(job, hosts) if hosts else batch_script(job)
    if args.print:
        print(text, end="")
        return 0
    if config.parallel.tensor > ranks_per_node or ranks_per_node % config.parallel.tensor:
        print(
            f"note: tensor groups of {config.parallel.tensor} span nodes of {ranks_per_node} ranks: their heavy "
            "traffic crosses the network",
            file=sys.stderr,
        )
    if hosts:
        if args.launcher == "deepspeed":
            write_script(job.run, "hostfile", hostfile(hosts, ranks_per_node))
        print(f"{write_script(job.run, 'job.sh', text)}: start it with bash")
        return 0
    script = write_script(job.run, "job.sbatch", text)
    if args.submit:
        print(f"job {' '.join(submit(script, args.jobs))} from {script}")
    else:
        print(f"{script}: submit it with sbatch")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Options by themselves and against each other."""
    from megatron_nlg.config.errors import InputError

    least = {
        "nodes": 1,
        "ranks_per_node": 1,
        "save_seconds": 1,
        "spares": 0,
        "jobs": 1,
        "max_requeues": 0,
        "segment": 1,
    }
    for name, low in least.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise InputError(f"--{name.replace('_', '-')} {value}: at least {low} is expected")
    if args.switches and not re.fullmatch(r"[1-9]\d*(@[\d:-]+)?", args.switches):
        raise InputError(f"--switches {args.switches}: a number is expected, also with a time: 2@12:00:00")
    for wrong, message in _contradictions(args):
        if wrong:
            raise InputError(message)


def _contradictions(args: argparse.Namespace) -> Iterator[tuple[object, str]]:
    """Whether something is wrong, and what to say then."""
    placed = args.topology or args.preflight or args.spares
    without, torchrun = args.hosts, args.launcher == "torchrun"
    yield args.nodes is None and not without, "--nodes: needed, or --hosts FILE"
    yield args.print and args.submit, "--print writes nothing to submit: leave out --print or --submit"
    yield args.jobs > 1 and not (args.submit or args.print), "--jobs: a chain is made by submitting it; add --submit"
    yield args.topology and not args.cluster, "--topology: needs --cluster FILE, which tells the links' bandwidths"
    yield args.mount and not args.container, "--mount: is for a --container"
    yield without and args.launcher == "srun", "--hosts: srun needs SLURM; choose --launcher torchrun or deepspeed"
    yield args.launcher == "deepspeed" and not without, "--launcher deepspeed: needs --hosts FILE, its nodes"
    yield (
        without and (placed or args.submit or args.container),
        ("--hosts: names nodes without SLURM: leave out --submit, --topology, --preflight, --spares and --container"),
    )
    yield (
        torchrun and placed,
        (
            "--launcher torchrun: counts ranks node after node, and follows no placement: choose srun, or leave out "
            "--topology, --preflight and --spares"
        ),
    )


def _ranks_per_node(args: argparse.Namespace, nodes: int, cluster: Cluster | None) -> int:
    from megatron_nlg.config.errors import InputError

    given: int | None = args.ranks_per_node
    if cluster is None:
        if given is None:
            raise InputError("--ranks-per-node: needed without --cluster; one rank a GPU")
        return given
    if nodes + args.spares > cluster.nodes:
        spares = f" and --spares {args.spares}" if args.spares else ""
        raise InputError(f"--nodes {nodes}{spares}: {cluster.name} has {cluster.nodes} ({args.cluster}: nodes)")
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

    if config.data.classification is not None:
        from megatron_nlg.data.labelled import with_epochs

        with_epochs(config)  # every text is looked at
        return
    blend = config.data.blend
    if blend is None:
        raise InputError("data.blend: is required to train; give the prepared corpus as data.blend=CORPUS/blend.yaml")
    if not Path(blend).is_file():
        raise InputError(f"data.blend: {blend}: no such file in {Path.cwd()}; prepare it with `megatron-nlg prep run`")


def _job(args: argparse.Namespace, config: RunConfig, cluster: Cluster | None, nodes: int, ranks_per_node: int) -> Job:
    from launch.environment import environment
    from launch.job import Job
    from megatron_nlg.config.cluster import Slurm
    from megatron_nlg.parallel.layout import Layout
    from megatron_nlg.planning.parameters import total_parameters

    slurm = cluster.slurm if cluster else Slurm()
    gpu_option = slurm.gpu_option if cluster and cluster.gpus_per_node else None
    layout = Layout.of(config.parallel, nodes * ranks_per_node)
    size = f"{total_parameters(config.model):,} parameters"
    spares = f" and {args.spares} spare" if args.spares else ""
    return Job(
        config=args.config.resolve(),
        overrides=tuple(args.overrides),
        run=args.out.resolve(),
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        summary=f"{args.config.name}: {size}, {layout} on {nodes} nodes × {ranks_per_node} ranks{spares}",
        # Not resolved: the virtual environment's python is a link, and is found by where it lies.
        python=Path(sys.executable).absolute(),
        directory=Path.cwd(),
        partition=args.partition or slurm.partition,
        account=args.account or slurm.account,
        time=args.time or slurm.time,
        gpu_option=gpu_option.format(gpus=ranks_per_node) if gpu_option else None,
        switches=args.switches,
        segment=args.segment,
        environment=tuple(environment(cluster)) if cluster else (),
        setup=slurm.setup,
        save_seconds=args.save_seconds,
        max_requeues=args.max_requeues,
        chained=args.jobs > 1,
        spares=args.spares,
        preflight=args.preflight or args.spares > 0,
        fabric=_fabric(args, cluster),
        launcher=args.launcher,
        container=_container(args, config),
    )


def _fabric(args: argparse.Namespace, cluster: Cluster | None) -> Fabric | None:
    """What ranks are placed by: a topology, or a cluster that names its nodes' switches."""
    from launch.job import Fabric

    if cluster is None or not (args.topology or (cluster.switches and args.launcher == "srun")):
        return None
    topology: str | None = args.topology
    if topology and topology != "scontrol":
        topology = str(Path(topology).resolve())
    return Fabric(args.cluster.resolve(), topology)


def _container(args: argparse.Namespace, config: RunConfig) -> Container | None:
    """The image with the folders that every run reads and writes."""
    from launch.job import Container

    if not args.container:
        return None
    blends = [config.data.blend, *(stage.blend for stage in config.data.stages), *config.data.validation.values()]
    texts = config.data.classification
    if texts is not None:
        blends += [texts.train, texts.validation, texts.tokenizer]
    files = [args.config, *(Path(blend) for blend in blends if blend)]
    wanted = {Path.cwd(), args.out.resolve(), *(path.resolve().parent for path in files)}
    wanted |= {path.resolve() for path in args.mount}
    outermost = [path for path in wanted if not any(other in path.parents for other in wanted)]
    return Container(args.container, args.container_runtime, tuple(sorted(outermost)))
