"""Before anything else: is every rank where the plan has it? No torch, so that a wrong start ends within seconds."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from launch.placement.plan import Plan, differences
from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.parallel.rendezvous import Rendezvous, is_this_node, node_name

GATHER_SECONDS = 3.0
"""Ranks that differ wait so long for each other's word, so that one message names them all."""
COURTESY_SECONDS = 15.0
"""Then the first of them speaks and leaves, which ends the job; the others speak only if that has not ended them."""
STALE_SECONDS = 60.0
"""What is older was said at an earlier start."""
SHOWN = 16


def read_placement(path: Path, ranks: int) -> Plan:
    """The plan of so many ranks. Raises InputError."""
    plan = Plan.read(path)
    if len(plan.seats) != ranks:
        raise InputError(f"--placement {path}: is for {len(plan.seats)} ranks, and there are {ranks}; plan again")
    return plan


def check_placement(plan: Plan, path: Path, who: Rendezvous, layout: Layout) -> None:
    """Compare this rank's node, local rank and coordinates with the plan that was read from `path`.

    Ranks that are where they should be go on, to a rendezvous that the others never reach. The others gather in a
    folder beside the plan, since a wrong placement may mean that MASTER_ADDR is wrong too. Raises InputError, which
    names the ranks that differ.
    """
    planned = plan.seats[who.rank].host
    host = planned if is_this_node(planned) else node_name()
    found = {"rank": who.rank, "host": host, "local_rank": who.local_rank, **asdict(layout.coordinates(who.rank))}
    if own := differences(plan, [found]):
        lines = _gather(path.with_name(f"{path.name}.differs"), who.rank, own[0])
        if who.rank != min(lines):
            time.sleep(COURTESY_SECONDS)
        said = [lines[rank] for rank in sorted(lines)[:SHOWN]]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise InputError(
            f"--placement {path}: {len(lines)} of {who.world_size} ranks are not where they are planned: "
            f"{'; '.join(said + more)}; start them as `launch` does: SLURM_HOSTFILE and srun --distribution=arbitrary"
        )


def _gather(folder: Path, rank: int, line: str) -> dict[int, str]:
    """Rank -> line of the ranks that differ."""
    try:
        folder.mkdir(exist_ok=True)
        temporary = folder / f".{rank}"
        temporary.write_text(line, encoding="utf-8")
        temporary.rename(folder / str(rank))
        time.sleep(GATHER_SECONDS)
        recent = time.time() - STALE_SECONDS
        found = {
            int(path.name): path.read_text(encoding="utf-8")
            for path in folder.glob("[0-9]*")
            if path.stat().st_mtime > recent
        }
    except OSError:  # a folder that can't be written is no reason to train in the wrong place
        found = {}
    return found | {rank: line}
