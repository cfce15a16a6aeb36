"""Names ranks that are slower than the others, from the phase times in all heartbeats: no communication."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from megatron_nlg.parallel.heartbeats import WAITING, Heartbeat, read_heartbeats
from megatron_nlg.training.callbacks.base import Run

SHARE = 0.02
"""A phase in which a rank loses less than this share of the window's time is not worth a word."""


class Stragglers:
    """Compares each window of steps once, as soon as all ranks have written theirs. Rank 0 only.

    A collective makes all its ranks as slow as the slowest: what tells them apart is the phases that end before one.
    """

    def __init__(self, run: Run):
        self.run = run
        self._done = run.start_step

    def look(self) -> dict[str, Any] | None:
        """An event that names the slow ranks of a new window, if there are any."""
        ranks = self.run.layout.world_size
        heartbeats = read_heartbeats(self.run.folder, ranks)
        windows = {heartbeat.window for heartbeat in heartbeats.values()}
        if len(heartbeats) < ranks or len(windows) != 1:
            return None
        first, last = windows.pop()
        if last <= self._done:
            return None
        self._done = last
        slow = stragglers(heartbeats, self.run.config.stragglers.factor)
        return {"event": "stragglers", "steps": [first, last], "ranks": slow} if slow else None


def stragglers(heartbeats: Mapping[int, Heartbeat], factor: float) -> list[dict[str, Any]]:
    """Rank, node, phase, its seconds and the median over all ranks, of every one that is `factor` times slower."""
    total = median([sum(heartbeat.seconds.values()) for heartbeat in heartbeats.values()])
    slow = []
    for phase in sorted({phase for heartbeat in heartbeats.values() for phase in heartbeat.seconds} - {WAITING}):
        usual = median([heartbeat.seconds.get(phase, 0.0) for heartbeat in heartbeats.values()])
        for rank, heartbeat in sorted(heartbeats.items()):
            seconds = heartbeat.seconds.get(phase, 0.0)
            if seconds > factor * usual and seconds - usual > SHARE * total:
                about = {"phase": phase, "seconds": round(seconds, 3), "median": round(usual, 3)}
                slow.append({"rank": rank, "node": heartbeat.host, **about})
    return slow
