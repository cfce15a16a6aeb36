"""A long-lived world of gloo workers for multi-rank tests.

Importing torch, DeepSpeed and Megatron-core takes seconds, so one process imports them once and forks the workers,
which live as long as the test session. A test sends them a function by reference; each call gets a process group of its
own size, and results come back by rank.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIZE = 8
TIMEOUT = 120


class WorkerError(AssertionError):
    """What a worker raised, with its traceback."""


class World:
    """`world.run(ranks, function, *args)` calls function(*args) on that many ranks and returns their results."""

    def __init__(self, size: int = SIZE):
        context = mp.get_context("fork")
        self.pipes: list[Connection] = []
        self.processes = []
        self.calls = 0
        self.folder = tempfile.TemporaryDirectory(prefix="world-")
        for rank in range(size):
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
                self.close()
                raise WorkerError(f"rank {rank} of {function.__qualname__} did not answer within {timeout} s")
            try:
                ok, value = pipe.recv()
            except EOFError:
                raise WorkerError(f"rank {rank} of {function.__qualname__} died") from None
            if ok:
                results[rank] = value
            else:
                failures.append((rank, value))
        if failures:
            # The cause, rather than a peer's "connection closed".
            rank, text = min(failures, key=lambda f: "onnection closed" in f[1])
            raise WorkerError(f"rank {rank}:\n{text}")
        return results

    def close(self) -> None:
        """End the workers."""
        for process in self.processes:
            process.kill()
        self.folder.cleanup()


def _serve(rank: int, pipe: Connection) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while True:
        try:
            ranks, store, function, args = pipe.recv()
        except EOFError:
            return
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost"}
        try:
            dist.init_process_group(
                "gloo", store=dist.FileStore(store, ranks), rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
            )
            answer = (True, function(*args))
        except BaseException:
            answer = (False, traceback.format_exc())
        try:
            _leave()
        except BaseException:
            answer = (False, traceback.format_exc()) if answer[0] else answer
        try:
            pipe.send(answer)
        except Exception:
            pipe.send((False, traceback.format_exc()))


def _leave() -> None:
    import gc

    import deepspeed.comm.comm
    import torch.distributed as dist
    from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload
    from deepspeed.runtime.zero.partition_parameters import Init
    from megatron.core import parallel_state

    # ZeRO-3 compares numbers of modules and parameters between ranks, and workers have built different models before.
    DeepSpeedZeRoOffload._register_deepspeed_module.__defaults__[0][0] = 0
    Init.param_id = 0
    gc.collect()
    parallel_state.destroy_model_parallel()
    if dist.is_initialized():
        dist.destroy_process_group()
    deepspeed.comm.comm.cdb = None
