"""Units on a Ray cluster: datatrove's executor in a thread of its own."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import ray
from datatrove.executor.ray import RayPipelineExecutor

from data_prep.execution.cluster import Task
from data_prep.recipe import Cluster as Settings
from megatron_nlg.config.errors import InputError


def submit(task: Task, settings: Settings, logs: Path) -> Submitted:
    """Start the tasks on the cluster at `settings.address`; raises InputError when none answers there."""
    if not ray.is_initialized():
        try:
            ray.init(address=settings.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f"cluster.address: {settings.address}: {error}; start one with `ray start --head`"
            ) from None
    executor = RayPipelineExecutor(
        pipeline=[task],
        tasks=min(settings.tasks, len(task.units.arguments)),
        workers=settings.workers or -1,
        cpus_per_task=settings.cpus_per_task,
        mem_per_cpu_gb=settings.memory_gb_per_cpu,
        logging_dir=str(logs),
    )
    return Submitted(executor)


class Submitted:
    """See Jobs."""

    def __init__(self, executor: RayPipelineExecutor):
        self._thread = threading.Thread(target=executor.run, daemon=True)
        self._thread.start()

    def ended(self) -> bool:
        """Whether datatrove's loop is over; it starts tasks whose workers died again by itself."""
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """The tasks end with the connection."""
        if self._thread.is_alive():
            ray.shutdown()
