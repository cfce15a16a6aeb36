"""A cluster as the launcher and the planner see it: its nodes, what is in them, how SLURM is asked for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from megatron_nlg.config.base import Section, build, read_yaml
from megatron_nlg.config.errors import ConfigError, InputError, Problem
from megatron_nlg.config.schema import Count, Positive
from megatron_nlg.config.switches import expand_switches, nodes_of, tree_problems, unknown_switches


class Slurm(Section):
    """What every job on this cluster says to SLURM."""

    partition: str | None = None
    """Partition that jobs go to; the cluster's default when not given."""
    account: str | None = None
    """Account that jobs are charged to."""
    time: str | None = None
    """Time limit of a job, in SLURM's notation, such as 4:00:00 or 2-00:00:00."""
    gpu_option: str | None = "--gpus-per-node={gpus}"
    """The sbatch option that asks for a node's GPUs, {gpus} of them; null where SLURM does not manage them."""
    setup: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Shell lines at the start of the job: modules, environment variables of the fabric."""


def _word(value: Any) -> Any:
    """`value: 4` is a number in YAML and text in an environment."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Variable(Section):
    """An environment variable of every job."""

    value: Annotated[str | None, BeforeValidator(_word)]
    """What it is set to; null leaves a variable of an included file alone."""
    reason: str
    """Why, in one line: it stands beside the variable in batch scripts."""


class Compute(Section):
    """How fast one accelerator is. Rates are those of data sheets, efficiencies are calibrated."""

    fp32_tflops: Annotated[float, Field(gt=0)] | None = None
    """Peak of fp32 matrix products, TFLOP/s; that of 16 bits is `peak_tflops`."""
    memory_gbs: Annotated[float, Field(gt=0)]
    """Bandwidth of its memory, GB/s (1e9 bytes)."""
    processors: Positive = 1
    """Streaming multiprocessors: a matrix product runs in waves of as many tiles. 1 where that is of no concern."""
    gemm_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the peak that large matrix products reach in a model's training."""
    memory_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.85
    """Share of the memory's bandwidth that element-wise kernels reach."""
    kernel_us: Annotated[float, Field(ge=0)] = 0.0
    """Added to every kernel where nothing hides its start: on a CPU, what Python and PyTorch do between two, µs."""
    attention_efficiency: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Rate of a fused attention kernel's products, its softmax included, against that of other matrix products."""
    functions_gps: Annotated[float, Field(gt=0)] | None = None
    """Billions of exponentials, and the like, a second, where they and not memory bind activation and loss."""
    cores: Positive | None = None
    """Of a node whose ranks compute on its cores, and share them: all rates are those of a rank with one core."""
    cores_together: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Speed of a rank while one works on each core, against one alone."""
    cores_crowded: Annotated[float, Field(gt=0, le=1)] | None = None
    """The same where four ranks share each core, apart from their sharing; None: as `cores_together`."""
    wait_us: Annotated[float, Field(ge=0)] = 0.0
    """Ranks sleep in a collective until all are awake: so long for each doubling of their number, µs."""


class Level(Section):
    """One kind of link of a fabric that is a tree: from each GPU, or node, or leaf switch …, to what it hangs on."""

    name: str
    """What hangs on it: gpu, node, leaf, spine, …"""
    bandwidth_gbs: Annotated[float, Field(gt=0)]
    """Of one such link, all its cables together, in each direction, GB/s (1e9 bytes)."""
    latency_us: Annotated[float, Field(ge=0)] = 0.0
    """End to end, of a message between two GPUs whose paths meet above this link, µs."""
    rails: Positive = 1
    """Separate cables that share the bandwidth: GPU g of a node of n uses rail g × rails // n only."""
    efficiency: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the bandwidth that large messages reach."""
    operations: dict[Literal["all_reduce", "all_gather", "reduce_scatter", "send"], Annotated[float, Field(gt=0)]] = (
        Field(default_factory=dict)
    )
    """Operation -> its time against that of latency and bandwidth, where a library does it otherwise than by a ring."""
    size: Positive | None = None
    """Links of the level below that meet here, of a regular tree; the last one may have fewer. Not for the GPU's."""


class Cluster(Section):
    """A cluster of equal nodes."""

    name: str
    """How people call it."""
    nodes: Positive
    """Nodes that a job can have."""
    gpus_per_node: Count
    """Accelerators in a node; 0 for a machine that trains on its CPU."""
    accelerator: str | None = None
    """Their name."""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """Dense bf16 peak of one accelerator, TFLOP/s."""
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory of one accelerator, or of the machine when it has none, GiB."""
    compute: Compute | None = None
    """Rates of one accelerator, for predictions of time."""
    levels: Annotated[tuple[Level, ...], Field(strict=False)] = ()
    """Links from the GPU's to those below the root of the tree: at least the GPU's and the node's."""
    switches: dict[str, Annotated[tuple[str, ...], Field(strict=False)]] | None = None
    """An uneven tree: switch -> what hangs on it, other switches or nodes as in SLURM's host lists, such as n[1-20]."""
    nvlink_domain: str | None = None
    """The level whose members are NVLink domains of several nodes, such as an NVL72's rack."""
    environment: dict[str, Variable] = Field(default_factory=dict)
    """Variables of NCCL and CUDA on this fabric; a start is to include a file of configs/fabrics."""
    slurm: Slurm = Slurm()
    """How SLURM is asked for nodes."""


def load_cluster(path: Path) -> Cluster:
    """Read a cluster description, or raise a ConfigError that lists every problem."""
    cluster = build(Cluster, read_yaml(path), str(path))
    if problems := list(cluster_problems(cluster)):
        raise ConfigError(problems, str(path))
    return cluster


def cluster_problems(cluster: Cluster) -> Iterator[Problem]:
    """What does not fit together in a cluster description."""
    yield from _level_problems(cluster)
    yield from _switch_problems(cluster)
    for name, variable in cluster.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield Problem(f"environment.{name}", "is no name of an environment variable", "letters, digits and _ only")
        for part in ("value", "reason"):
            if any(not character.isprintable() for character in getattr(variable, part) or ""):
                yield Problem(
                    f"environment.{name}.{part}", "has a line break or another control character", "use one line"
                )


def _level_problems(cluster: Cluster) -> Iterator[Problem]:
    names = [level.name for level in cluster.levels]
    if len(names) == 1:
        yield Problem("levels", "only one is given", "at least the GPU's link and the node's are needed")
    for i, level in enumerate(cluster.levels):
        if level.name in names[:i]:
            yield Problem(f"levels.{i}.name", f"{level.name} is a level already", "give each its own name")
        if level.rails > max(cluster.gpus_per_node, 1):
            mend = f"at most {max(cluster.gpus_per_node, 1)}, one for a GPU of a node"
            yield Problem(f"levels.{i}.rails", f"{level.rails} rails can't all be used", mend)
        if i < 2 and level.size is not None:
            yield Problem(f"levels.{i}.size", f"is not for the {level.name}", "gpus_per_node says it")
    if cluster.nvlink_domain is not None and cluster.nvlink_domain not in names[2:3]:
        mend = f"which is {names[2]}" if len(names) > 2 else "which is not described"
        yield Problem("nvlink_domain", f"{cluster.nvlink_domain} is not the level that nodes hang on", mend)


def _switch_problems(cluster: Cluster) -> Iterator[Problem]:
    if cluster.switches is None:
        return
    try:
        switches = expand_switches(cluster.switches)
    except InputError as error:
        yield Problem("switches", str(error))
        return
    if not cluster.levels:
        yield Problem("switches", "links without a bandwidth", "give the levels, from the GPU's up")
    for problem in (*tree_problems(switches), *unknown_switches(switches)):
        yield Problem(f"switches.{problem.key}", problem.message, problem.mend)
    if (count := len(nodes_of(switches))) != cluster.nodes:
        yield Problem("nodes", f"is {cluster.nodes}, and {count} nodes hang on switches", f"set it to {count}")
