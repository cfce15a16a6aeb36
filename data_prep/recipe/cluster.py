"""Where stages run when one machine is not enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from data_prep.recipe.kinds import Count, Positive
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import Problem


class Cluster(Section):
    """Machines that share the output folder, the inputs and this Python environment. No output depends on them."""

    engine: Literal["slurm", "ray"]
    """SLURM job arrays, or a running Ray cluster, both through datatrove."""
    tasks: Annotated[Positive, Field(le=1000)] = 16
    """Tasks that a stage's units are dealt to; 1,000 is as far as SLURM's usual limit of an array goes."""
    workers: Positive | None = None
    """Tasks that run at the same time; no limit when not given."""
    cpus_per_task: Positive = 1
    """Cores of a task; more than one where a unit needs the memory of more."""
    memory_gb_per_cpu: Positive = 2
    """Memory asked for, in GB for each core."""
    time: str = "24:00:00"
    """SLURM's limit for a task."""
    partition: str | None = None
    """SLURM's partition; required there."""
    qos: str | None = None
    """SLURM's quality of service."""
    sbatch: dict[str, str] = Field(default_factory=dict)
    """Other options of sbatch, such as `{account: nlp, exclude: node7}`."""
    address: str = "auto"
    """Ray's address; auto is the cluster that this machine belongs to."""
    retries: Count = 2
    """How often tasks that end without a result, because a node died or time was up, are started again."""


def cluster_problems(cluster: Cluster | None) -> Iterator[Problem]:
    """What no single field can say."""
    if cluster and cluster.engine == "slurm" and not cluster.partition:
        yield Problem("cluster.partition", "is required by engine slurm", "sinfo lists them")
