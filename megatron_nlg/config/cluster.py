"""A cluster as the launcher and the planner see it: its nodes, what is in them, how SLURM is asked for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from megatron_nlg.config.base import Section, build, read_yaml
from megatron_nlg.config.schema import Count, Positive


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
    levels: Annotated[tuple[Level, ...], Field(strict=False)] = ()
    """Links from the GPU's to those below the root of the tree: at least the GPU's and the node's."""
    switches: dict[str, Annotated[tuple[str, ...], Field(strict=False)]] | None = None
    """An uneven tree: switch -> what hangs on it, other switches or nodes as in SLURM's host lists, such as n[1-20]."""
    slurm: Slurm = Slurm()
    """How SLURM is asked for nodes."""


def load_cluster(path: Path) -> Cluster:
    """Read a cluster description, or raise a ConfigError that lists every problem."""
    return build(Cluster, read_yaml(path), str(path))
