"""The checkpoints of a run: saved in the background, complete or invisible, and the newest whole one loaded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.schema import Checkpoint
from megatron_nlg.model.naming import CLASSIFIER
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.callbacks.metrics import replace_text
from megatron_nlg.training.checkpoint.format import (
    EVERYTHING,
    LATEST,
    WEIGHT,
    Progress,
    candidates,
    check_identity,
    kept,
    locate,
    model_part,
    name_of,
    problems_of,
    read_manifest,
    read_progress,
    remove,
    steps_in,
)
from megatron_nlg.training.checkpoint.publish import fresh_folder, reason, seal, show
from megatron_nlg.training.checkpoint.reader import Source
from megatron_nlg.training.checkpoint.state import Piece, loadable, owned, weights_of
from megatron_nlg.training.checkpoint.writer import Planner, Snapshot, write

if TYPE_CHECKING:
    from megatron_nlg.training.engine import Engine


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is complete, and what it cost."""

    step: int
    path: Path
    stall_seconds: float
    """Training stood still on this rank: an earlier write that had not ended, and the copy to memory."""
    write_seconds: float
    """From the copy to the visible checkpoint, in the background."""
    bytes: int
    """Of all ranks' files."""

    def cost(self) -> dict[str, Any]:
        """For the log."""
        return {
            "checkpoint_stall_seconds": round(self.stall_seconds, 4),
            "write_seconds": round(self.write_seconds, 3),
            "bytes": self.bytes,
            "bytes_per_second": round(self.bytes / self.write_seconds),
        }


CLASSES = "data.classification.labels"
"""A classifier's classes in its identity."""
Check = Callable[[Progress, Path, str], None]
"""Raises InputError where a checkpoint's progress, in that folder, is of another model or other data than the run's.
The last argument says what the user may do, where that is not the usual."""


class Checkpoints:
    """The `checkpoints` folder of a run. Every method is collective."""

    def __init__(self, folder: Path, settings: Checkpoint, context: ParallelContext):
        self.folder, self.settings, self.context = folder, settings, context
        # A group of its own: the writing thread must not mix its messages with the training thread's.
        self._group = dist.new_group(backend="gloo")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[Saved] | None = None
        self._snapshot = Snapshot()
        self.loaded_from: Path | None = None
        """The checkpoint that was loaded."""
        self.left_initial: dict[str, Any] = {}
        """What of the model that checkpoint had no weights for, for the log."""

    # ---- saving --------------------------------------------------------------------------------------------------

    def save(self, engine: Engine, progress: Progress) -> Saved | None:
        """Copy this rank's share of the state to memory and write it, in the background when the config says so.

        Waits for an earlier save and returns it. Raises MegatronNlgError on all ranks when a write fails.
        """
        start = time.perf_counter()
        earlier = self.wait()
        pieces = owned(engine)
        self._snapshot.take(pieces)
        written_by = asdict(self.context.layout) | {
            "zero_stage": engine.config.parallel.zero_stage,
            "precision": engine.config.precision,
        }
        bare = [replace(piece, tensor=None) for piece in pieces]  # the thread must not see what training changes
        stall = time.perf_counter() - start
        self._pending = self._thread.submit(self._write, bare, progress, written_by, stall)
        if not self.settings.asynchronous:
            self._pending.result()
        return earlier

    def poll(self) -> Saved | None:
        """A background save that has just completed on this rank, once; never waits or raises."""
        if self._pending is None or not self._pending.done() or self._pending.exception():
            return None
        done, self._pending = self._pending.result(), None
        return done

    def failed(self) -> bool:
        """Whether a background save has failed on this rank."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def wait(self) -> Saved | None:
        """Wait for the save under way, if any; raises what it raised."""
        if self._pending is None:
            return None
        pending, self._pending = self._pending, None
        return pending.result()

    def close(self) -> None:
        """Stop the writing thread."""
        self._thread.shutdown(wait=True)

    def _write(self, pieces: Sequence[Piece], progress: Progress, written_by: dict[str, Any], stall: float) -> Saved:
        """Write, hash, sync and rename. Runs in the writing thread of every rank."""
        start = time.perf_counter()
        final = self.folder / name_of(progress.step)
        partial = self.folder / f".{final.name}.partial"
        failure: str | None = None
        files: list[Any] = [None] * dist.get_world_size(self._group)
        try:
            self._on_main(lambda: fresh_folder(partial))
            mine = write(partial, Planner(pieces, self._snapshot.__getitem__), self._group)
            dist.all_gather_object(files, mine, group=self._group)
            entries = {name: entry for part in files for name, entry in part.items()}
            self._on_main(lambda: self._publish(partial, final, progress, entries, written_by))
        except (OSError, CheckpointException, _MainRankError) as error:
            failure = reason(error)
        if failure is not None:
            if self.context.is_main:
                shutil.rmtree(partial, ignore_errors=True)
            raise MegatronNlgError(
                f"the checkpoint of step {progress.step} can't be written to {self.folder}: {failure}; nothing of it "
                "is left, earlier ones are whole: mend the disk and start the same command again"
            )
        total = sum(entry["bytes"] for entry in entries.values())
        return Saved(progress.step, final, stall, time.perf_counter() - start, total)

    def _on_main(self, action: Callable[[], None]) -> None:
        """Run something on rank 0 while the others wait; what fails there is raised on all."""
        answer: list[str | None] = [None]
        if self.context.is_main:
            try:
                action()
            except (OSError, InputError) as error:
                answer = [reason(error)]
        dist.broadcast_object_list(answer, src=0, group=self._group)
        if answer[0] is not None:
            raise _MainRankError(answer[0])

    def _publish(
        self,
        partial: Path,
        final: Path,
        progress: Progress,
        files: dict[str, dict[str, Any]],
        written_by: dict[str, Any],
    ) -> None:
        """On rank 0: the small files, the rename that makes the checkpoint visible, and what is kept of older ones."""
        seal(partial, progress, files, written_by)
        show(partial, final)
        replace_text(self.folder / LATEST, final.name + "\n")
        steps = [step for step in steps_in(self.folder) if step <= progress.step]
        for step in set(steps) - set(kept(steps, self.settings.keep_last, self.settings.keep_every)):
            remove(self.folder / name_of(step))

    # ---- loading -------------------------------------------------------------------------------------------------

    def load(self, engine: Engine, identity: dict[str, Any], check: Check | None = None) -> tuple[Progress, list[str]]:
        """Load the newest whole checkpoint, if there is any, and say what was wrong with newer ones.

        `check` raises InputError for one of another model or other data; without it all must be as in `identity`. A run
        that has none of its own yet starts from `checkpoint.load_from`, if that is set. Raises InputError when all are
        damaged.
        """
        if self._pending is not None:
            self._pending.result()  # a run that rolls back: the save under way may be the one to load
        if self.context.is_main:
            for left in self.folder.glob(".step_*"):  # of a killed writer
                shutil.rmtree(left, ignore_errors=True)
        folder, progress, damaged = self._newest_whole(list(candidates(self.folder)))
        if folder is not None:
            if check:
                check(progress, folder, "")
            else:
                check_identity(progress.identity, identity, folder)
            self._fill(engine, folder, progress)
        elif self.settings.load_from is not None:
            progress, damaged = self._load_from(engine, Path(self.settings.load_from), identity, check)
        return progress, damaged

    def load_weights(
        self, chunks: Sequence[nn.Module], identity: dict[str, Any], step: int | None = None
    ) -> tuple[Progress, list[str]]:
        """Fill the weights of chunks that no optimizer holds, and say what was wrong with newer checkpoints.

        Only the checkpoint of `step` is taken where that is given. Raises InputError when there is no checkpoint, or
        when it differs from `identity` in a setting named there.
        """
        folders = list(candidates(self.folder))
        if step is not None:
            there = ", ".join(str(other) for other in sorted(steps_in(self.folder))) or "none"
            folders = [folder for folder in folders if folder.name == name_of(step)]
            if not folders:
                raise InputError(f"{self.folder}: has no checkpoint of step {step}; there are: {there}")
        folder, progress, damaged = self._newest_whole(folders)
        if folder is None:
            raise InputError(f"{self.folder}: holds no checkpoint; train first, or name the run's folder")
        check_identity({key: progress.identity.get(key) for key in identity}, identity, folder)
        Source(folder).read(weights_of(chunks, self.context))
        return progress, damaged

    def _load_from(
        self, engine: Engine, path: Path, identity: dict[str, Any], check: Check | None
    ) -> tuple[Progress, list[str]]:
        """Start from another run's checkpoint: its weights only, or all of it."""
        folder, progress, damaged = self._newest_whole(locate(path))
        assert folder is not None
        if self.settings.load == "weights":
            mend = "checkpoint.load=weights needs the same model"
            check_identity(model_part(progress.identity), model_part(identity), folder, mend)
            self._fill(engine, folder, Progress(), _initial(progress.identity, identity))
            return Progress(), damaged
        # What was imported from another system knows nothing of our data.
        imported = all(key.startswith("model.") for key in progress.identity)
        mend = "set these back, or set checkpoint.load=weights to start a new run with its weights"
        if check and not imported:
            check(progress, folder, mend)
        else:
            part = model_part if imported else dict
            check_identity(part(progress.identity), part(identity), folder, mend)
        self._fill(engine, folder, progress)
        return replace(progress, identity=identity), damaged

    def _newest_whole(self, folders: Sequence[Path]) -> tuple[Path | None, Progress, list[str]]:
        """Folder and progress of the first whole checkpoint, or None; and what was wrong with those before it."""
        answer: list[Any] = [None]
        damaged: list[str] = []
        for folder in folders:
            problems = self._verify(folder)
            if problems:
                damaged.append(f"{folder}: {'; '.join(problems)}")
                continue
            if self.context.is_main:
                answer = [read_progress(folder)]
            dist.broadcast_object_list(answer, src=0)
            return folder, answer[0], damaged
        if damaged:
            raise InputError(
                f"no checkpoint is whole: {'; '.join(damaged)}; move {self.folder} away to start from the beginning"
            )
        return None, Progress(), []

    def _verify(self, folder: Path) -> list[str]:
        """Problems of a checkpoint, found by all ranks together, each reading its share of the files."""
        mine = problems_of(folder, dist.get_rank(), dist.get_world_size())
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, mine)
        return sorted({problem for part in found for problem in part})

    def _fill(self, engine: Engine, folder: Path, progress: Progress, initial: str | None = None) -> None:
        """Fill weights and, when updates have been made, moments; each rank reads its own share.

        Parameters whose name begins with `initial` keep their initial values.
        """
        updates = progress.step - progress.skipped_steps
        if updates and read_manifest(folder).contents != EVERYTHING:
            raise InputError(
                f"{folder}: holds weights only, with which a run can't go on; start a new one with "
                f"checkpoint.load_from={folder} checkpoint.load=weights"
            )
        if updates:
            engine.create_moments()
            engine.link_moments()
        pieces = loadable(engine, EVERYTHING if updates else (WEIGHT,))
        if initial:
            pieces = [piece for piece in pieces if not piece.key.startswith(f"{WEIGHT}.{initial}")]
            self.left_initial = {"left_initial": f"{initial}*"}
        with torch.no_grad():
            Source(folder).read(pieces)
        engine.refresh_weights()
        engine.set_update_count(updates)
        self.loaded_from = folder


def _initial(saved: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """A classifier's head is drawn anew, unless it is another classifier's of the same classes."""
    same = saved.get(CLASSES) == wanted.get(CLASSES)
    return None if CLASSES not in wanted or same else CLASSIFIER


class _MainRankError(Exception):
    """What rank 0 could not do."""
