"""Units on many machines through datatrove's executors: SLURM job arrays, or Ray.

The machines share the output folder and this Python environment. A task runs `units[rank::tasks]` one after the other;
their result files are all that the waiting process looks at. A task that ends without its results (its node died, its
time was up) is started again, a unit that says what is wrong is not.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from data_prep.execution.local import use_one_core
from data_prep.execution.units import Advance, Units
from data_prep.files import make_folder
from data_prep.recipe import Cluster as Settings
from megatron_nlg.config.errors import InputError, MegatronNlgError

_POLL_SECONDS = 1.0
_LOG_LINES = 15


@dataclass
class Task:
    """datatrove's step: `run(data, rank, world_size)`."""

    units: Units
    directory: Path = field(default_factory=Path.cwd)
    """Relative paths start from here."""

    def __call__(self, data: Iterable[Any] | None, rank: int, world_size: int) -> None:
        """Run this rank's share; the first error with a mend ends it."""
        use_one_core()
        os.chdir(self.directory)
        missing = self.units.missing().arguments  # a task that is started again has done some
        for name in list(self.units.arguments)[rank::world_size]:
            if name in missing and not self.units.run_and_record(name):
                return


class Jobs(Protocol):
    """The jobs of one attempt, on their way."""

    def ended(self) -> bool:
        """Whether none of them will do any more; a cluster that doesn't answer says nothing."""
        ...

    def cancel(self) -> None:
        """End what is left of them."""
        ...


class Cluster:
    """See Executor. `folder` is for the jobs' scripts and logs."""

    def __init__(self, settings: Settings, folder: Path):
        self.settings, self.folder = settings, folder

    def close(self) -> None:
        """Nothing is held between stages."""

    def run(self, units: Units, advance: Advance) -> None:
        """Run the units as jobs, again as often as `retries` says where tasks vanish."""
        total = done = len(units.arguments)
        for attempt in range(self.settings.retries + 1):
            left = units.missing()
            left.forget_errors()
            logs = self.folder / f"{_file_name(units.title)}-{units.folder.name}-{attempt}"
            jobs = self._start(left, logs)
            done = total - len(left.arguments)
            try:
                while True:
                    ended, before = jobs.ended(), done  # in this order: what an ended job leaves is counted
                    done = total - len(units.missing().arguments)
                    advance(done - before)
                    units.raise_recorded()
                    if done == total:
                        return
                    if ended:
                        break
                    time.sleep(_POLL_SECONDS)
            finally:
                jobs.cancel()
        missing = list(units.missing().arguments)
        raise MegatronNlgError(
            f"{units.title}: {len(missing)} of {total} units, the first {missing[0]}, were not done after "
            f"{self.settings.retries + 1} attempts; the last one's logs: {logs}{_last_lines(logs)}"
        )

    def _start(self, units: Units, logs: Path) -> Jobs:
        shutil.rmtree(logs, ignore_errors=True)
        make_folder(logs)
        try:
            from loguru import logger

            logger.disable("datatrove")  # what it tells of its jobs is in their folder
            if self.settings.engine == "slurm":
                from data_prep.execution.slurm import submit

                return submit(Task(units), self.settings, logs)
            from data_prep.execution.ray import submit as submit_to_ray

            return submit_to_ray(Task(units), self.settings, logs)
        except ImportError as error:
            mend = "pip install 'megatron_nlg[cluster]'"
            raise InputError(f"cluster.engine: {self.settings.engine} needs {error.name}: {mend}") from None


def _file_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")


def _last_lines(logs: Path) -> str:
    """The end of the log that was written last."""
    files = sorted(
        (path for path in logs.rglob("*") if path.suffix in (".out", ".log") and path.stat().st_size),
        key=lambda path: path.stat().st_mtime,
    )
    if not files:
        return ""
    lines = files[-1].read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return f"\n{files[-1].name}:\n" + "\n".join(lines)
