"""A thread of every rank that writes its heartbeat, and looks out for jobs that hang and for slow ranks."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any

from megatron_nlg.parallel.heartbeats import FOLDER, Heartbeat, write_heartbeat
from megatron_nlg.parallel.rendezvous import node_name
from megatron_nlg.training.callbacks.base import Callback, Run
from megatron_nlg.training.callbacks.stragglers import Stragglers
from megatron_nlg.training.callbacks.watchdog import Watchdog
from megatron_nlg.training.phases import Phases


class HeartbeatThread(Callback):
    """Writes `heartbeats/rank_NNNNN.json`. On every rank; a disk that is full is no reason to stop.

    `fail` ends the process with an error when the job hangs.
    """

    def __init__(self, rank: int, phases: Phases, fail: Callable[[Exception], None] | None = None):
        self.rank, self.phases = rank, phases
        self._fail = fail
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._count = 0
        self._window: tuple[tuple[int, int], Mapping[str, float]] = (0, 0), {}
        self._window_start: tuple[int, Mapping[str, float]] = (1, {})
        self._findings: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def on_start(self, run: Run) -> None:
        """Write the first heartbeat and start the thread."""
        self.phases.step = run.start_step
        self._window_start = (run.start_step + 1, dict(self.phases.seconds))
        with contextlib.suppress(OSError):
            (run.folder / FOLDER).mkdir(exist_ok=True)
        self._write(run)
        self._thread = threading.Thread(target=self._watch, args=(run,), name="heartbeat", daemon=True)
        self._thread.start()

    def on_step_start(self, run: Run, step: int) -> None:
        """Close a window of phase times where one ends."""
        self.phases.step = step
        interval = run.config.stragglers.interval
        if interval and step > self._window_start[0] and (step - 1) % interval == 0:
            first, before = self._window_start
            now = dict(self.phases.seconds)
            seconds = {name: round(now[name] - before.get(name, 0.0), 6) for name in now}
            self._window = (first, step - 1), seconds
            self._window_start = (step, now)

    def findings(self) -> list[dict[str, Any]]:
        """Events that the thread has found since the last call."""
        found = []
        with contextlib.suppress(Empty):
            while True:
                found.append(self._findings.get_nowait())
        return found

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Stop the thread; the last heartbeat says that the rank has ended."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self.phases.enter("ended")
        self._write(run)

    def _watch(self, run: Run) -> None:
        config = run.config
        interval = config.heartbeat.interval_seconds
        watchdog = Watchdog(run, self.rank, self.phases, self._fail) if config.watchdog.timeout_seconds else None
        stragglers = Stragglers(run) if config.stragglers.interval and run.is_main else None
        while not self._stop.wait(interval):
            self._write(run)
            if stragglers and (event := stragglers.look()):
                self._findings.put(event)
            if watchdog:
                watchdog.look()

    def _write(self, run: Run) -> None:
        self._count += 1
        window, seconds = self._window
        heartbeat = Heartbeat(
            rank=self.rank,
            host=node_name(),
            pid=os.getpid(),
            step=self.phases.step,
            phase=self.phases.name,
            beats=self.phases.beats,
            count=self._count,
            time=round(time.time(), 3),
            window=window,
            seconds=seconds,
        )
        with contextlib.suppress(OSError):
            write_heartbeat(run.folder, heartbeat)
