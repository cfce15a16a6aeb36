"""Units on a Ray cluster: datatrove's executor in a process of its own, which can be ended at any time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import ray
from datatrove.executor.ray import RayPipelineExecutor

from data_prep.execution.cluster import Task
from data_prep.recipe import Cluster as Settings
from megatron_nlg.config.errors import InputError, MegatronNlgError

_LOOK_SECONDS, _END_SECONDS = 10.0, 10.0


def submit(task: Task, settings: Settings, logs: Path) -> Submitted:
    """Start the tasks on the cluster at `settings.address`; raises InputError when none answers there."""
    _look(settings.address)
    context = multiprocessing.get_context("spawn")
    answer, there = context.Pipe(duplex=False)
    driver = context.Process(target=_drive, args=(task, settings, logs, there), daemon=True)
    driver.start()
    there.close()
    try:
        refusal = answer.recv()
    except EOFError:
        driver.join()
        raise MegatronNlgError(f"Ray: exit code {driver.exitcode} while connecting; see {logs}/driver.log") from None
    if refusal:
        raise _nobody(settings.address, refusal)
    return Submitted(driver)


class Submitted:
    """See Jobs."""

    def __init__(self, driver: multiprocessing.process.BaseProcess):
        self._driver = driver

    def ended(self) -> bool:
        """Whether datatrove's loop is over; it starts tasks whose workers died again by itself."""
        return not self._driver.is_alive()

    def cancel(self) -> None:
        """The tasks end with the process that they belong to."""
        self._driver.terminate()
        self._driver.join(_END_SECONDS)
        self._driver.kill()


def _look(address: str) -> None:
    """Raise InputError when nothing listens at HOST:PORT: Ray itself would ask there for many minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), _LOOK_SECONDS).close()
    except OSError as error:
        raise _nobody(address, error) from None


def _nobody(address: str, why: object) -> InputError:
    return InputError(f"cluster.address: {address}: {why}; start one with `ray start --head`")


def _drive(task: Task, settings: Settings, logs: Path, there: Connection) -> None:
    """In the process: connect, say how that went (an empty text: well), and run the tasks to their end."""
    log = os.open(logs / "driver.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        ray.init(address=settings.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        there.send(str(error) or type(error).__name__)
        return
    there.send("")
    RayPipelineExecutor(
        pipeline=[task],
        tasks=min(settings.tasks, len(task.units.arguments)),
        workers=settings.workers or -1,
        cpus_per_task=settings.cpus_per_task,
        mem_per_cpu_gb=settings.memory_gb_per_cpu,
        logging_dir=str(logs),
    ).run()


def _end_with_parent() -> None:
    """A process that was killed leaves no driver behind: the next one starts its own."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
