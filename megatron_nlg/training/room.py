"""Memory that each local rank has: of its GPU as the driver tells it, else its share of the machine's. No torch."""

from __future__ import annotations

import subprocess

from megatron_nlg.planning.fit import Room
from megatron_nlg.planning.footprint import CPU, CUDA, GIB

QUERY = ("nvidia-smi", "--query-gpu=memory.total,name", "--format=csv,noheader,nounits")
PATIENCE = 20
"""Seconds for a driver that is busy."""


def local_room(ranks: int) -> Room | None:
    """Of the smallest GPU here, without touching it; of `ranks` ranks that share the machine where there is none."""
    try:
        lines = subprocess.run(QUERY, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.splitlines()
    except FileNotFoundError:
        return _share(ranks)
    except (OSError, subprocess.SubprocessError):
        return None  # a driver without an answer: torch will say what is wrong
    sizes = [line.split(", ", 1) for line in lines if line.split(",")[0].strip().isdecimal()]
    if not sizes:
        return None
    mib, name = min(sizes, key=lambda size: int(size[0]))
    return Room(int(mib) / 1024, name, CUDA)


def _share(ranks: int) -> Room:
    import psutil

    total = psutil.virtual_memory().total / GIB
    return Room(total / ranks, f"each of {ranks} ranks on this machine of {total:.0f} GiB", CPU)
