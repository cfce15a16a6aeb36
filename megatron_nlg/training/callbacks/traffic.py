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
        self._first: tuple[float, Carried] | None = None
        self._last: tuple[float, Carried] | None = None
        self._steps = 0
        """Steps between the two readings; some may be taken twice, after a rollback."""

    def on_start(self, run: Run) -> None:
        """Remove what an earlier job left, which may have had other nodes."""
        if run.is_main:
            shutil.rmtree(run.folder / FOLDER, ignore_errors=True)

    def on_step_start(self, run: Run, step: int) -> None:
        """Read the counters."""
        if not self.counts or (self._first is None and step < run.start_step + 2):
            return
        try:
            self._last = (time.monotonic(), carried())
        except (OSError, ValueError):  # an adapter that tells nothing is no reason to stop
            self.counts, self._steps = False, 0
            return
        self._steps = 0 if self._first is None else self._steps + 1
        self._first = self._first or self._last

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Write what a step carried; a disk that is full is no reason to fail."""
        if self._first is None or self._last is None or not self._steps:
            return
        (time_0, before), (time_1, after), steps = self._first, self._last, self._steps
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
