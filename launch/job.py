"""What a job is made of, whichever launcher starts its ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Container:
    """An image that ranks run in: `megatron-nlg` is on its PATH."""

    image: str
    runtime: str
    """pyxis (srun's own options, with enroot) or apptainer."""
    mounts: tuple[Path, ...]
    """Folders that ranks see at the same place as outside."""


@dataclass(frozen=True)
class Fabric:
    """Where the job learns how its nodes are connected, once it has them."""

    cluster: Path
    topology: str | None
    """A file, or `scontrol` to ask SLURM; None when the cluster's file names its switches."""


@dataclass(frozen=True)
class Job:
    """A run on nodes × ranks. Paths are absolute."""

    config: Path
    overrides: tuple[str, ...]
    run: Path
    """The run folder; the script goes there too, its output to `logs/`, what a job leaves to `jobs/NUMBER/`."""
    nodes: int
    ranks_per_node: int
    summary: str
    """One line for the top of the script."""
    python: Path
    """The interpreter that has this package."""
    directory: Path
    """Where the job runs: paths in the config are relative to it."""
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    gpu_option: str | None = None
    """Such as --gpus-per-node=8; None where SLURM does not manage GPUs."""
    switches: str | None = None
    """Most leaf switches that the nodes may lie under, such as 2 or 2@12:00 (waits so long for them)."""
    segment: int | None = None
    """Nodes that must lie in one block of a block topology, by groups of so many."""
    environment: tuple[tuple[str, str, str], ...] = ()
    """Variables of the fabric: name, value, reason."""
    setup: tuple[str, ...] = ()
    """Shell lines before the ranks start."""
    save_seconds: int = 180
    """How long before the time limit the ranks are told to save and leave."""
    max_requeues: int = 10
    """Times that the job may be queued again."""
    chained: bool = False
    """Whether further jobs go on with the run after the time limit."""
    spares: int = 0
    """Nodes beyond `nodes` that the job asks for, to replace bad ones."""
    preflight: bool = False
    """Whether nodes are tested before training."""
    fabric: Fabric | None = None
    """What ranks are placed by; SLURM's own order without it."""
    launcher: str = "srun"
    """Who starts the ranks of a SLURM job: srun one by one, or torchrun, which srun starts once a node."""
    container: Container | None = None

    @property
    def ranks(self) -> int:
        """Ranks in all."""
        return self.nodes * self.ranks_per_node
