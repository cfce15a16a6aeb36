"""Stages that can be killed at any instant and go on where they were.

A stage builds its folder under `.work/STAGE-KEY/`, one unit of work after the other; a unit is done when its small
JSON result is there. When all are, `done.json` is written (what the stage depends on and a hash of that, its key; its
outputs' sizes and checksums; its counts) and the folder is renamed into place: it is never visible half-written. What a
stage depends on is its part of the recipe and the key of the stage before, so a changed recipe or input runs just the
stages it concerns.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.execution.units import Executor, Result, Units, Worker
from data_prep.files import disk_error, file_sha256, fingerprint, make_folder, read_json, sync, write_json
from megatron_nlg.config.errors import InputError

DONE = "done.json"
WORK = ".work"
_SHOWN_CHANGES = 3


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
    again: str = ""
    """Why it was built though it had been finished before."""


class Job:
    """Where a preparation runs and what runs its units; processes start at the first need and end with the context."""

    def __init__(self, out: Path, executor: Executor, verify: bool = False):
        self.out, self.executor, self.verify = out, executor, verify

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.close()

    def map_units(self, title: str, folder: Path, worker: Worker, arguments: Mapping[str, Any]) -> dict[str, Result]:
        """`worker(folder, name, argument)` for each unit, in any order and in parallel; their results in units' order.

        A unit whose result file is there is not run again.
        """
        make_folder(folder)
        units = Units(title, worker, folder, arguments)
        missing = units.missing()
        with progress_bar(title, len(arguments)) as advance:
            advance(len(arguments) - len(missing.arguments))
            if missing.arguments:
                self.executor.run(missing, advance)
        return units.results()

    def run_stage(
        self, name: str, version: int, depends: Mapping[str, Any], folder: Path, build: Callable[[Path], Built]
    ) -> Done:
        """Bring a stage's folder up to date: nothing to do when it is done with this key, else build and publish it.

        `depends` is all that the output depends on, as JSON; `version` is raised when the code's output changes.
        """
        key = stage_key(name, version, depends)
        found = finished(name, folder, self.verify)
        if found and found.key == key:
            self._remove_other_work(name)
            return found
        work = self.out / WORK / f"{name}-{key[:16]}"
        again = _why_again(name, folder, version, depends)
        if not (work / DONE).exists():
            make_folder(work)
            built = build(work)
            with ThreadPoolExecutor() as pool:  # hashing lets other threads run
                files = sorted(built.files)
                sums = dict(zip(files, pool.map(lambda file: file_sha256(work / file), files), strict=True))
            outputs = {file: {"bytes": (work / file).stat().st_size, "sha256": sums[file]} for file in files}
            done = {"stage": name, "version": version, "depends": depends, "key": key}
            write_json(work / DONE, {**done, "outputs": outputs, "summary": built.summary})
        self._publish(work, folder)
        self._remove_other_work(name)
        published = finished(name, folder)
        assert published is not None
        return replace(published, was_done=False, again=again)

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


def stage_key(name: str, version: int, depends: Mapping[str, Any]) -> str:
    """A hash of all that a stage's output depends on."""
    return fingerprint([name, version, depends])


def finished(name: str, folder: Path, thorough: bool = False) -> Done | None:
    """A stage as its folder holds it, or None when it was never finished or a file of it is missing or cut.

    With `thorough`, all files are read, and None is returned when a checksum does not fit.
    """
    if not (folder / DONE).exists():
        return None
    try:
        done = read_json(folder / DONE, "")
        sound = done["stage"] == name and all(
            (folder / file).stat().st_size == about["bytes"]
            and (not thorough or file_sha256(folder / file) == about["sha256"])
            for file, about in done["outputs"].items()
        )
        return Done(name, done["key"], folder, done["summary"], was_done=True) if sound else None
    except (InputError, OSError, KeyError, TypeError):
        return None


def _why_again(name: str, folder: Path, version: int, depends: Mapping[str, Any]) -> str:
    """What changed since the stage was finished; empty when it never was."""
    try:
        done = read_json(folder / DONE, "")
        before, before_version = done["depends"], done["version"]
    except (InputError, KeyError):
        return ""
    if before_version != version:
        return f"{name} itself has changed"
    changes = list(_changes(before, json.loads(json.dumps(depends)), ""))
    if not changes:
        return "a file of it was missing or damaged"
    more = f" and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
    return ", ".join(changes[:_SHOWN_CHANGES]) + more


def _changes(before: Any, now: Any, key: str) -> Iterator[str]:
    """Differences of two JSON trees, one text each."""
    if before == now:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _changes(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (a, b) in enumerate(zip(before, now, strict=True)):
            yield from _changes(a, b, f"{key}.{i}")
    else:
        shown = [json.dumps(value, ensure_ascii=False) for value in (before, now)]
        is_short = all(len(text) <= 40 for text in shown) and not key.startswith(("documents", "tokenizer"))
        yield f"{key} was {shown[0]}, is {shown[1]}" if is_short else f"{key} changed"


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
