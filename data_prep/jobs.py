"""Stages that can be killed at any instant and go on where they were.

A stage builds its folder under `.work/STAGE-KEY/`, one unit of work after the other; a unit is done when its small
JSON result is there. When all are, `done.json` is written (the stage's key, its inputs, its outputs' sizes, its counts)
and the folder is renamed into place: it is never visible half-written. The key hashes the part of the recipe that the
stage depends on and the key of the stage before, so a changed recipe or input runs just the stages it concerns.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.files import disk_error, make_folder, read_json, sync, write_json
from megatron_nlg.config.errors import InputError, MegatronNlgError

DONE = "done.json"
WORK = ".work"

Result = dict[str, Any]
Units = Mapping[str, Any]


class Built(NamedTuple):
    """What a stage's build function hands back: its counts, and the files (names in its folder) that are its output."""

    summary: dict[str, Any]
    files: Sequence[str]


@dataclass(frozen=True)
class Done:
    """A finished stage."""

    name: str
    key: str
    folder: Path
    summary: dict[str, Any]
    was_done: bool
    """It had been finished before this run."""


class Job:
    """Where a preparation runs and with how many processes; these start at the first need and end with the context."""

    def __init__(self, out: Path, processes: int):
        self.out, self.processes = out, processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map_units(
        self, title: str, folder: Path, worker: Callable[[Path, str, Any], Result], units: Units
    ) -> dict[str, Result]:
        """`worker(folder, name, argument)` for each unit, in any order and in parallel; their results in units' order.

        A unit whose result file is there is not run again. `worker` must be importable, write only files that begin
        with its name, and return what JSON can hold.
        """
        make_folder(folder)
        missing = {name: argument for name, argument in units.items() if not _result_path(folder, name).exists()}
        with progress_bar(title, len(units)) as advance:
            advance(len(units) - len(missing))
            if min(self.processes, len(missing)) <= 1:
                for name, argument in missing.items():
                    _run_unit(worker, folder, name, argument)
                    advance(1)
            else:
                self._run_parallel(worker, folder, missing, advance)
        return {name: read_json(_result_path(folder, name), "remove .work and start again")["result"] for name in units}

    def _run_parallel(
        self, worker: Callable[[Path, str, Any], Result], folder: Path, units: Units, advance: Callable[[int], None]
    ) -> None:
        if self._pool is None:
            # Spawned, not forked: Arrow and the tokenizers have threads in this process, whose locks a fork would copy.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.processes, mp_context=context, initializer=_start_worker)
        futures = [self._pool.submit(_run_unit, worker, folder, name, argument) for name, argument in units.items()]
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

    def run_stage(self, name: str, key: str, inputs: Any, folder: Path, build: Callable[[Path], Built]) -> Done:
        """Bring a stage's folder up to date: nothing to do when it is done with this key, else build and publish it."""
        found = finished(name, folder)
        if found and found.key == key:
            self._remove_other_work(name)
            return found
        work = self.out / WORK / f"{name}-{key[:16]}"
        if not (work / DONE).exists():
            make_folder(work)
            built = build(work)
            outputs = {file: (work / file).stat().st_size for file in sorted(built.files)}
            done = {"stage": name, "key": key, "inputs": inputs, "outputs": outputs, "summary": built.summary}
            write_json(work / DONE, done)
        self._publish(work, folder)
        self._remove_other_work(name)
        published = finished(name, folder)
        assert published is not None
        return Done(published.name, published.key, published.folder, published.summary, was_done=False)

    def _publish(self, work: Path, folder: Path) -> None:
        outputs = read_json(work / DONE, "remove .work and start again")["outputs"]
        for path in sorted(work.iterdir()):
            if path.name not in outputs and path.name != DONE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        make_folder(folder.parent)
        try:
            if folder.exists():
                _must_be_ours(folder)
                old = work.with_name(f"{work.name}.old")
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            work.rename(folder)
            sync(folder.parent)
        except OSError as error:
            raise disk_error(error, folder) from error

    def _remove_other_work(self, name: str) -> None:
        for path in (self.out / WORK).glob(f"{name}-*"):
            shutil.rmtree(path)
        if (self.out / WORK).is_dir() and not any((self.out / WORK).iterdir()):
            (self.out / WORK).rmdir()


def finished(name: str, folder: Path) -> Done | None:
    """A stage as its folder holds it, or None when it was never finished or a file of it is missing or cut."""
    if not (folder / DONE).exists():
        return None
    try:
        done = read_json(folder / DONE, "")
        sizes = {file: (folder / file).stat().st_size for file in done["outputs"]}
    except (InputError, OSError, KeyError):
        return None
    if sizes != done["outputs"] or done["stage"] != name:
        return None
    return Done(name, done["key"], folder, done["summary"], was_done=True)


def _must_be_ours(folder: Path) -> None:
    if any(folder.iterdir()) and not (folder / DONE).exists():
        raise InputError(f"{folder}: is in the way and was not made by megatron-nlg prep; choose another --out")


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Hold a folder for one preparation; what an earlier, killed one left half-written at its top is removed.

    Raises InputError when another process holds it, or it can't be written to.
    """
    make_folder(out)
    try:
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise disk_error(error, out) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{out}: another preparation is writing here; wait for it, or choose another --out"
            ) from None
        for path in out.glob(".*.tmp"):
            path.unlink()
        yield


def _result_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.unit.json"


def _run_unit(worker: Callable[[Path, str, Any], Result], folder: Path, name: str, argument: Any) -> None:
    write_json(_result_path(folder, name), {"result": worker(folder, name, argument)})


def _start_worker() -> None:
    """A worker uses one core, and ends at once when interrupted or when its parent ends, however that dies."""
    import signal

    import pyarrow as pa

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the library's only switch
    pa.set_cpu_count(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's stderr, nothing elsewhere; yields the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns.insert(2, MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total)
        yield lambda count: bars.advance(task, count)
