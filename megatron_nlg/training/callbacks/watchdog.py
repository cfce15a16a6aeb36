"""Ends a job in which nothing moves, after saying which rank, on which node, in which phase keeps it from moving."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from megatron_nlg.config.errors import NodeFaultError
from megatron_nlg.parallel.heartbeats import Heartbeat, behind, read_heartbeats
from megatron_nlg.training.callbacks.base import Run
from megatron_nlg.training.callbacks.metrics import EVENTS
from megatron_nlg.training.phases import Phases

READINGS = 2.5
"""Heartbeats between the two readings that a verdict is made from."""


class Watchdog:
    """Looks at this rank's own progress; when it stands still, at the heartbeats of all ranks.

    `look` is called after every heartbeat, from the thread that writes them: the training thread is what may hang. All
    living ranks come to the same verdict by themselves; each leaves its stacks in its log first.
    """

    def __init__(self, run: Run, rank: int, phases: Phases, fail: Callable[[Exception], None] | None):
        self.run, self.rank, self.phases = run, rank, phases
        self._fail = fail or _exit
        self._beats, self._since = phases.beats, time.monotonic()
        self._suspected: tuple[float, Mapping[int, Heartbeat]] | None = None

    def look(self) -> None:
        """End the process when there has been no progress for too long."""
        now, beats = time.monotonic(), self.phases.beats
        settings = self.run.config.watchdog
        limit = settings.checkpoint_seconds if self.phases.name == "checkpoint" else settings.timeout_seconds
        if beats != self._beats:
            self._beats, self._since, self._suspected = beats, now, None
        elif self._suspected is None:
            if now - self._since > limit:
                print(f"no progress for {now - self._since:.1f} s; stacks of this rank:", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                self._suspected = now, self._read()
        elif now - self._suspected[0] > READINGS * self.run.config.heartbeat.interval_seconds:
            after = self._read()
            self._end(now - self._since, behind(self._suspected[1], after, self.run.layout.world_size), after)

    def _read(self) -> Mapping[int, Heartbeat]:
        return read_heartbeats(self.run.folder, self.run.layout.world_size)

    def _end(self, seconds: float, blamed: Sequence[str], alive: Mapping[int, Heartbeat]) -> None:
        if self.rank == min(alive, default=self.rank) or self.rank == 0:
            event = {"event": "hang", "step": self.phases.step, "ranks": list(blamed), "time": round(time.time(), 3)}
            # Past the callbacks, which belong to the thread that hangs.
            with contextlib.suppress(OSError), (self.run.folder / EVENTS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        shown = [*blamed[:8], f"and {len(blamed) - 8} more"] if len(blamed) > 8 else blamed
        self._fail(
            NodeFaultError(
                f"no progress for {seconds:.0f} s (watchdog.timeout_seconds): {'; '.join(shown)}; stacks are in "
                f"{self.run.folder / 'logs'}; the same command goes on from what is saved"
            )
        )


def _exit(error: Exception) -> None:
    print(error, file=sys.stderr, flush=True)
    os._exit(NodeFaultError.exit_code)
