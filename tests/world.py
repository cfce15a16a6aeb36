"""A long-lived world of gloo workers for multi-rank tests.

Importing torch, DeepSpeed and Megatron-core takes seconds, so one process imports them once and forks the workers,
which live as long as the test session. A test sends them a function by reference; each worker forks once more to run
it, so that a test finds nothing of the one before it (the libraries keep threads and counters that no call removes).
Each call gets a process group of its own size, and results come back by rank.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing as mp
import os
import pickle
import signal
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIZE = 8
TIMEOUT = 120
PR_SET_PDEATHSIG = 1


class WorkerError(AssertionError):
    """What a worker raised, with its traceback."""


class World:
    """`world.run(ranks, function, *args)` calls function(*args) on that many ranks and returns their results."""

    def __init__(self, size: int = SIZE):
        self.size = size
        self.calls = 0
        self.folder = tempfile.TemporaryDirectory(prefix="world-")
        self._start()

    def _start(self) -> None:
        gc.freeze()  # collecting garbage among the libraries' objects takes half a second, and DeepSpeed asks for it
        context = mp.get_context("fork")
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(self.size):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, there), daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)

    def run(self, ranks: int, function: Callable[..., Any], *args: Any, timeout: float = TIMEOUT) -> list[Any]:
        """Results by rank. Raises WorkerError with the first worker's traceback."""
        self.calls += 1
        store = str(Path(self.folder.name) / f"store-{self.calls}")
        for pipe in self.pipes[:ranks]:
            pipe.send((ranks, store, function, args))
        results: list[Any] = [None] * ranks
        failures: list[tuple[int, str]] = []
        for rank, pipe in enumerate(self.pipes[:ranks]):
            if not pipe.poll(timeout):
                self._end()
                self._start()
                raise WorkerError(f"rank {rank} of {function.__qualname__} did not answer within {timeout} s")
            ok, value = pickle.loads(pipe.recv_bytes())
            if ok:
                results[rank] = value
            else:
                failures.append((rank, value))
        if failures:
            # The cause, rather than a peer's "connection closed".
            rank, text = min(failures, key=lambda f: "onnection closed" in f[1])
            raise WorkerError(f"rank {rank}:\n{text}")
        return results

    def _end(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def close(self) -> None:
        """End the workers."""
        self._end()
        self.folder.cleanup()


def _serve(rank: int, pipe: Connection) -> None:
    """A worker: forks a process a call, and waits for it."""
    worker = os.getpid()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it ends with its worker
            try:
                if os.getppid() == worker:
                    _run(rank, pipe, *job)
            finally:
                os._exit(0)  # never back into the worker's loop
        _, status = os.waitpid(child, 0)
        if status:
            pipe.send_bytes(pickle.dumps((False, f"the process died with status {status}")))


def _run(rank: int, pipe: Connection, ranks: int, store: str, function: Callable[..., Any], args: Any) -> None:
    """Run a call in a process group of its own and send the answer."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost"}
    try:
        dist.init_process_group(
            "gloo", store=dist.FileStore(store, ranks), rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
        )
        answer = (True, function(*args))
    except BaseException:
        answer = (False, traceback.format_exc())
    # Plain pickle: multiprocessing's own would send tensors as handles of memory that goes with this process.
    try:
        data = pickle.dumps(answer)
    except Exception:
        data = pickle.dumps((False, traceback.format_exc()))
    pipe.send_bytes(data)
    with contextlib.suppress(Exception):  # a rank that has gone would break its peers' last transfers
        dist.barrier()
