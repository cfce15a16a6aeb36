"""Signs of life of a run's ranks, as files that anything may read. No torch.

`heartbeats/rank_NNNNN.json` in the run folder is written by a thread of each rank: that the file changes says that the
process lives, its step, phase and `beats` say whether training moves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

FOLDER = "heartbeats"
WAITING = "wait"
"""Phase of a rank that has done its own part and waits for others."""


@dataclass(frozen=True)
class Heartbeat:
    """What a rank says of itself."""

    rank: int
    host: str
    pid: int
    step: int
    """The step that is being taken."""
    phase: str
    """data, wait, forward-backward, optimizer, validation, checkpoint; at the end "ended"."""
    beats: int
    """Grows with every phase and micro-batch: a rank whose beats stand still makes no progress."""
    count: int
    """Grows with every file written: one that stands still is of a process that is stopped, or gone."""
    time: float
    """When this was written, in seconds since the epoch, by this node's clock."""
    window: tuple[int, int] = (0, 0)
    """First and last step that `seconds` are of."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Phase -> seconds spent in it over the window."""

    @property
    def who(self) -> str:
        """Rank, node and process, for a message."""
        return f"rank {self.rank} (node {self.host}, process {self.pid})"


def heartbeat_path(run_folder: Path, rank: int) -> Path:
    """File of a rank."""
    return run_folder / FOLDER / f"rank_{rank:05d}.json"


def write_heartbeat(run_folder: Path, heartbeat: Heartbeat) -> None:
    """Put a rank's file in place at once. Not synced to disk: the next one comes soon."""
    path = heartbeat_path(run_folder, heartbeat.rank)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(heartbeat)) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_heartbeats(run_folder: Path, ranks: int | None = None) -> dict[int, Heartbeat]:
    """Rank -> its last sign of life; ranks that have none, or none that can be understood, are left out."""
    if ranks is None:
        paths = sorted((run_folder / FOLDER).glob("rank_*.json"))
    else:
        paths = [heartbeat_path(run_folder, rank) for rank in range(ranks)]
    found = {}
    for path in paths:
        try:
            heartbeat = _parse(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            continue
        found[heartbeat.rank] = heartbeat
    return found


def _parse(tree: Mapping[str, object]) -> Heartbeat:
    """Raises ValueError, TypeError or KeyError for what is no heartbeat."""
    kinds: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(("rank", "pid", "step", "beats", "count"), int),
        **dict.fromkeys(("host", "phase"), str),
        "time": (int, float),
        "window": list,
        "seconds": dict,
    }
    values = {item.name: tree[item.name] for item in fields(Heartbeat)}
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise ValueError(f"{name} is {values[name]!r}")
    first, last = map(int, values.pop("window"))  # type: ignore[call-overload]
    return Heartbeat(**values, window=(first, last))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Blame:
    """A rank that keeps a job from moving. `last` is its last sign of life, None when it never gave one."""

    rank: int
    last: Heartbeat | None
    alive: bool

    def __str__(self) -> str:
        if self.last is None:
            return f"rank {self.rank} has given no sign of life"
        if self.alive:
            return f"{self.last.who} lives and does not move in step {self.last.step}, {self.last.phase}"
        where = f"step {self.last.step}, {self.last.phase}"
        return f"{self.last.who} gives no sign of life; it was last seen in {where}"


def blamed(before: Mapping[int, Heartbeat], after: Mapping[int, Heartbeat], ranks: int) -> list[Blame]:
    """Who keeps a job from moving, judged by two readings that are some heartbeats apart.

    Ranks whose files have not changed are to blame, whatever the clocks of their nodes say. When all live, it is those
    of the earliest step that do not wait for others, the least advanced one first.
    """
    silent = [rank for rank in range(ranks) if rank not in after or _count(before, rank) == after[rank].count]
    if silent:
        return [Blame(rank, after.get(rank), alive=False) for rank in silent]
    first = min(heartbeat.step for heartbeat in after.values())
    late = [heartbeat for heartbeat in after.values() if heartbeat.step == first]
    busy = [heartbeat for heartbeat in late if heartbeat.phase != WAITING] or late
    busy.sort(key=lambda heartbeat: (heartbeat.beats, heartbeat.rank))
    return [Blame(heartbeat.rank, heartbeat, alive=True) for heartbeat in busy]


def behind(before: Mapping[int, Heartbeat], after: Mapping[int, Heartbeat], ranks: int) -> list[str]:
    """`blamed`, one line each."""
    return [str(blame) for blame in blamed(before, after, ranks)]


def _count(heartbeats: Mapping[int, Heartbeat], rank: int) -> int | None:
    return heartbeats[rank].count if rank in heartbeats else None
