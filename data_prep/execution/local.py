"""Units in this process, or in a pool of processes on this machine that starts at the first need."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from data_prep.execution.units import Advance, Units
from megatron_nlg.config.errors import MegatronNlgError


class Local:
    """See Executor."""

    def __init__(self, processes: int):
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        """End the pool."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(self, units: Units, advance: Advance) -> None:
        """Run the units here when there is but one or one process, else in the pool."""
        if min(self.processes, len(units.arguments)) > 1:
            self._run_parallel(units, advance)
            return
        for name in units.arguments:
            units.run(name)
            advance(1)

    def _run_parallel(self, units: Units, advance: Advance) -> None:
        if self._pool is None:
            # Spawned, not forked: Arrow and the tokenizers have threads in this process, whose locks a fork would copy.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.processes, mp_context=context, initializer=_start_worker)
        futures = [self._pool.submit(_run_one, units.only(name), name) for name in units.arguments]
        try:
            for future in as_completed(futures):
                future.result()
                advance(1)
        except BrokenProcessPool:
            raise MegatronNlgError(
                "a worker process was killed, perhaps for memory; start the same command again, with fewer processes"
            ) from None
        finally:
            for future in futures:
                future.cancel()


def _run_one(units: Units, name: str) -> None:
    units.run(name)


def use_one_core() -> None:
    """Libraries with threads of their own take one core: a unit is what is run in parallel."""
    import pyarrow as pa

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the libraries' only switches
    os.environ["POLARS_MAX_THREADS"] = "1"
    os.environ["RAYON_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)


def _start_worker() -> None:
    """A worker uses one core, and ends at once when interrupted or when its parent ends, however that dies."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_one_core()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
