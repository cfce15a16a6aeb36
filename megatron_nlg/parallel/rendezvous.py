"""Which rank this process is, and on which node, as the launcher's variables say. No torch."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass

from megatron_nlg.config.errors import InputError

COURTESY_SECONDS = 5
"""Without a supervisor, rank 0 gets this long to say what all ranks have found, before another one says it."""


@dataclass(frozen=True)
class Rendezvous:
    """Which rank this process is, as torchrun or SLURM's srun started it."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_ranks: int = 1
    """Ranks on this node."""

    @classmethod
    def from_environment(cls) -> Rendezvous | None:
        """torchrun's variables, else those of an srun step with MASTER_ADDR set, else None: a single process.

        Raises InputError for variables that are no numbers or contradict each other, and for a port that is none.
        """
        for *names, tasks in (
            ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
            ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_TASKS_PER_NODE"),
        ):
            if "MASTER_ADDR" in os.environ and all(name in os.environ for name in names[:2]):
                rank, world_size, local_rank = (number(name, os.environ.get(name, "0")) for name in names)
                if rank >= world_size:
                    raise InputError(
                        f"{names[0]} {rank} in the environment: {names[1]} says that there are {world_size} ranks, "
                        "counted from 0; start ranks with torchrun or srun, which set both"
                    )
                # SLURM writes 4(x2),3 for four ranks on two nodes and three on another.
                here = re.split(r"[(,]", os.environ.get(tasks, str(world_size)))[0]
                return cls(rank, world_size, local_rank, number(tasks, here))
        return None


def number(name: str, value: str) -> int:
    """The value of an environment variable that is a count."""
    if not value.isdecimal():
        raise InputError(f"{name} {value!r} in the environment: a whole number is expected; mend or unset it")
    return int(value)


def node_name() -> str:
    """This node as SLURM calls it, else its host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def is_this_node(name: str) -> bool:
    """Whether a name that a plan gives to a node is this one's, with or without a domain."""
    mine = node_name()
    return name == mine or mine.startswith(f"{name}.") or name.startswith(f"{mine}.")


def yield_to_main(rank: int) -> None:
    """Call on a rank that has no supervisor, before it says what other ranks have found too.

    The launcher (srun, torchrun) ends all ranks when the first one fails: rank 0 speaks and leaves at once, the others
    speak only if that has not ended them, so that there is one message and never none.
    """
    if rank:
        time.sleep(COURTESY_SECONDS)
