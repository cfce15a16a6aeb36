"""What the node's adapters carry while it trains: one rank a node reads their counters before each step."""

from __future__ import annotations

import contextlib
import shutil
import time

from megatron_nlg.parallel.counters import FOLDER, Carried, NodeTraffic, carried, write_traffic
from megatron_nlg.parallel.rendezvous import Rendezvous, node_name
from megatron_nlg.training.callbacks.base import Callback, Run


class Traffic(Callback):
    """Writes `traffic/NODE.json` when the run ends, which `launch status` holds against the plan.

    The first step is left out: it starts connections and fills buffers.
    """

    def __init__(self) -> None:
        who = Rendezvous.from_environment() or Rendezvous()
        self.counts = who.local_rank == 0 and who.world_size > who.local_ranks
        self._first: tuple[int, float, Carried] | None = None
        self._last: tuple[int, float, Carried] | None = None

    def on_start(self, run: Run) -> None:
        """Remove what an earlier job left, which may have had other nodes."""
        if run.is_main:
            shutil.rmtree(run.folder / FOLDER, ignore_errors=True)

    def on_step_start(self, run: Run, step: int) -> None:
        """Read the counters."""
        if self.counts and step > run.start_step + 1:
            self._last = (step, time.monotonic(), carried())
            self._first = self._first or self._last

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Write what a step carried; a disk that is full is no reason to fail."""
        if self._first is None or self._last is None or self._last[0] == self._first[0]:
            return
        (step_0, time_0, before), (step_1, time_1, after) = self._first, self._last
        steps = step_1 - step_0
        traffic = NodeTraffic(
            node=node_name(),
            steps=steps,
            sent_bytes=(after.sent - before.sent) / steps,
            received_bytes=(after.received - before.received) / steps,
            step_seconds=(time_1 - time_0) / steps,
            adapters=after.adapters,
        )
        with contextlib.suppress(OSError):
            write_traffic(run.folder, traffic)
