"""A SLURM job array that runs units: datatrove's executor, watched and ended by its job number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from datatrove.executor.slurm import SlurmPipelineExecutor

from data_prep.execution.cluster import Task
from data_prep.files import read_json, write_json
from data_prep.recipe import Cluster as Settings
from megatron_nlg.config.errors import InputError, MegatronNlgError

_SLOWEST_POLL_SECONDS = 15.0


class Array(SlurmPipelineExecutor):  # type: ignore[misc]
    """datatrove's executor without the second job that would wait for ever for a first one that failed."""

    def launch_merge_stats(self) -> None:
        """Units leave results of their own."""


def submit(task: Task, settings: Settings, logs: Path) -> Submitted:
    """Send the array off; raises InputError where there is no SLURM, MegatronNlgError for what sbatch says."""
    if not shutil.which("sbatch"):
        raise InputError("cluster.engine: slurm, and there is no sbatch here; start it on a login node")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise InputError(
            "cluster.engine: slurm can't be used inside a job array; start it on a login node, or as one job"
        )
    record = logs.parent / "array.json"
    if record.exists():  # of a process that was killed while it waited
        _cancel(str(read_json(record, "remove it")["job"]))
    executor = Array(
        pipeline=[task],
        tasks=min(settings.tasks, len(task.units.arguments)),
        workers=settings.workers or -1,
        time=settings.time,
        partition=settings.partition,
        qos=settings.qos,
        cpus_per_task=settings.cpus_per_task,
        mem_per_cpu_gb=settings.memory_gb_per_cpu,
        sbatch_args=dict(settings.sbatch),
        job_name=logs.name,
        env_command=_same_environment(),
        logging_dir=str(logs),
        requeue_signals=None,
    )
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise MegatronNlgError(
            f"sbatch: exit code {error.returncode}; its script: {logs}/launch_script.slurm"
        ) from None
    job = str(executor.job_id)
    write_json(record, {"job": job})
    return Submitted(job, record)


class Submitted:
    """See Jobs."""

    def __init__(self, job: str, record: Path):
        self.job, self.record = job, record
        self._wait, self._next = 1.0, 0.0
        self._ended = False

    def ended(self) -> bool:
        """Asks the controller seldom: it has other users."""
        if not self._ended and time.monotonic() >= self._next:
            self._ended = not _in_queue(self.job)
            self._next = time.monotonic() + self._wait
            self._wait = min(self._wait * 1.3, _SLOWEST_POLL_SECONDS)
        return self._ended

    def cancel(self) -> None:
        """scancel, and forget it."""
        if not self._ended:
            _cancel(self.job)
        self.record.unlink(missing_ok=True)


def _in_queue(job: str) -> bool:
    done = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], check=False, capture_output=True, text=True)
    if done.returncode and "Invalid job id" not in done.stderr:
        return True  # the controller does not answer: nothing is known
    return bool(done.stdout.strip())


def _cancel(job: str) -> None:
    subprocess.run(["scancel", job], check=False, capture_output=True)


def _same_environment() -> str:
    """Shell lines that let a node run this Python and these packages."""
    import shlex

    here = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    return f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH PYTHONPATH={shlex.quote(path)}"
