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
    slurm: Slurm = Slurm()
    """How SLURM is asked for nodes."""


def load_cluster(path: Path) -> Cluster:
    """Read a cluster description, or raise a ConfigError that lists every problem."""
    return build(Cluster, read_yaml(path), str(path))
