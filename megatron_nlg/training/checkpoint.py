"""Checkpoints in one logical format, whatever the layout: global names, whole tensors, written by all ranks.

A checkpoint is a folder `step_00000100` of torch.distributed.checkpoint files with, per parameter, its fp32 master
weight and Adam's two moments as DTensors over (data, tensor), so that any layout reads any other's. Beside them stand
`progress.json` (where training is) and `manifest.json` (size and SHA-256 of every file). It is written under a hidden
name, synced and renamed, and `latest` is moved last: what can be seen is complete. Loading checks every byte and falls
back to the newest checkpoint that is whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as read_state
from torch.distributed.checkpoint.state_dict_saver import save as write_state
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from data_prep.files import sync
from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.schema import Checkpoint, RunConfig
from megatron_nlg.model.naming import NamedParameter, named_parameters
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.callbacks.metrics import replace_text
from megatron_nlg.training.engine import Engine

FORMAT = 1
LATEST = "latest"
MANIFEST = "manifest.json"
PROGRESS = "progress.json"
NAME = re.compile(r"step_(\d{8,})")
WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")
CHUNK = 1 << 24


@dataclass(frozen=True)
class Progress:
    """Where training is, and what a run that goes on from here must share with the one that wrote it."""

    step: int = 0
    """Steps taken, skipped ones included."""
    consumed_samples: int = 0
    """Sequences read: the whole state of the data."""
    skipped_steps: int = 0
    """Steps that changed nothing because their gradient was not finite; Adam has not counted them."""
    loss_scale: dict[str, float] = field(default_factory=dict)
    """State of fp16's dynamic loss scale; empty in other precisions."""
    identity: dict[str, Any] = field(default_factory=dict)
    """Dotted setting -> value, of all that makes it the same model on the same data."""


class Checkpoints:
    """The `checkpoints` folder of a run. Every method is collective."""

    def __init__(self, folder: Path, settings: Checkpoint, context: ParallelContext):
        self.folder, self.settings, self.context = folder, settings, context
        layout = context.layout
        # A group of its own: the writing thread must not mix its messages with the training thread's.
        self._group = dist.new_group(backend="gloo")
        mesh = init_device_mesh(
            "cpu", (layout.pipeline, layout.copies, layout.tensor), mesh_dim_names=("pp", "dp", "tp")
        )
        self._mesh = mesh["dp", "tp"]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[tuple[int, Path]] | None = None

    # ---- saving --------------------------------------------------------------------------------------------------

    def save(self, engine: Engine, progress: Progress) -> None:
        """Copy the state to memory and write it, in the background when the config says so.

        Waits for an earlier save. Raises MegatronNlgError on all ranks when a write fails.
        """
        self.wait()
        state = self._snapshot(engine)
        self._pending = self._thread.submit(self._write, state, progress)
        if not self.settings.asynchronous:
            self.wait()

    def poll(self) -> tuple[int, Path] | None:
        """Step and folder of a background save that has just completed on this rank, once; never waits or raises."""
        if self._pending is None or not self._pending.done() or self._pending.exception():
            return None
        done, self._pending = self._pending.result(), None
        return done

    def failed(self) -> bool:
        """Whether a background save has failed on this rank."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def wait(self) -> tuple[int, Path] | None:
        """Wait for the save under way, if any; raises what it raised."""
        if self._pending is None:
            return None
        pending, self._pending = self._pending, None
        return pending.result()

    def close(self) -> None:
        """Stop the writing thread."""
        self._thread.shutdown(wait=True)

    def _snapshot(self, engine: Engine) -> dict[str, DTensor]:
        """Copies of this rank's weights and moments on the CPU, under global names."""
        state = {}
        has_moments = engine.link_moments()
        for item in engine.parameters():
            weight = safe_get_full_fp32_param(item.parameter)
            state[f"{WEIGHT}.{item.name}"] = self._dtensor(item, weight)
            for key in MOMENTS:  # zero before the first update
                moment = safe_get_full_optimizer_state(item.parameter, key) if has_moments else torch.zeros_like(weight)
                state[f"{key}.{item.name}"] = self._dtensor(item, moment)
        return state

    def _empty(self, items: Sequence[NamedParameter], keys: Sequence[str]) -> dict[str, DTensor]:
        """Room for this rank's parts of what is to be read."""
        return {f"{k}.{i.name}": self._dtensor(i, torch.empty(self._part_shape(i))) for i in items for k in keys}

    def _part_shape(self, item: NamedParameter) -> list[int]:
        """Shape of this rank's part of a parameter, which under ZeRO-3 is not the local tensor's."""
        shape = list(item.whole_shape(self.context.layout.tensor))
        if item.cut is not None:
            shape[item.cut] //= self.context.layout.tensor
        return shape

    def _dtensor(self, item: NamedParameter, tensor: Tensor) -> DTensor:
        """A rank's part as a DTensor over (data, tensor)."""
        copy = tensor.detach().to("cpu", torch.float32, copy=True).view(self._part_shape(item))
        cut = Replicate() if item.cut is None else Shard(item.cut)
        return DTensor.from_local(copy, self._mesh, [Replicate(), cut], run_check=False)

    def _write(self, state: dict[str, DTensor], progress: Progress) -> tuple[int, Path]:
        """Write, hash, sync and rename. Runs in the writing thread of every rank."""
        final = self.folder / f"step_{progress.step:08d}"
        partial = self.folder / f".{final.name}.partial"
        failure: str | None = None
        try:
            self._on_main(lambda: _fresh_folder(partial))
            writer = FileSystemWriter(partial, sync_files=True, overwrite=True)
            write_state(state, storage_writer=writer, process_group=self._group)
            files: list[Any] = [None] * dist.get_world_size(self._group)
            dist.all_gather_object(files, _hashes(partial, f"__{dist.get_rank(self._group)}_*"), group=self._group)
            self._on_main(lambda: self._publish(partial, final, progress, files))
        except (OSError, CheckpointException, _MainRankError) as error:
            failure = _reason(error)
        if failure is not None:
            if self.context.is_main:
                shutil.rmtree(partial, ignore_errors=True)
            raise MegatronNlgError(
                f"the checkpoint of step {progress.step} can't be written to {self.folder}: {failure}; nothing of it "
                "is left, earlier ones are whole: mend the disk and start the same command again"
            )
        return progress.step, final

    def _on_main(self, action: Any) -> None:
        """Run something on rank 0 while the others wait; its OSError is raised on all."""
        answer: list[str | None] = [None]
        if self.context.is_main:
            try:
                action()
            except OSError as error:
                answer = [_reason(error)]
        dist.broadcast_object_list(answer, src=0, group=self._group)
        if answer[0] is not None:
            raise _MainRankError(answer[0])

    def _publish(self, partial: Path, final: Path, progress: Progress, hashes: list[dict[str, Any]]) -> None:
        """On rank 0: the small files, then the rename that makes the checkpoint visible."""
        replace_text(partial / PROGRESS, json.dumps(asdict(progress), indent=1) + "\n")
        files = {name: entry for part in hashes for name, entry in part.items()}
        files |= _hashes(partial, ".metadata") | _hashes(partial, PROGRESS)
        replace_text(
            partial / MANIFEST, json.dumps({"format": FORMAT, "files": files}, indent=1, sort_keys=True) + "\n"
        )
        sync(partial)
        replaced = self.folder / f".{final.name}.replaced"
        if final.exists():  # a damaged one that training has come back to
            final.rename(replaced)
        partial.rename(final)
        sync(self.folder)
        replace_text(self.folder / LATEST, final.name + "\n")
        shutil.rmtree(replaced, ignore_errors=True)
        self._prune(progress.step)

    def _prune(self, newest: int) -> None:
        """Delete what the retention policy does not keep."""
        steps = [step for step in sorted(steps_in(self.folder)) if step <= newest]
        every = self.settings.keep_every
        for step in steps[: -self.settings.keep_last]:
            if not (every and step % every == 0):
                folder = self.folder / f"step_{step:08d}"
                hidden = folder.with_name(f".{folder.name}.pruned")
                folder.rename(hidden)  # gone at once, and never seen half-deleted
                shutil.rmtree(hidden, ignore_errors=True)

    # ---- loading -------------------------------------------------------------------------------------------------

    def load(self, engine: Engine, identity: dict[str, Any]) -> tuple[Progress, list[str]]:
        """Load the newest whole checkpoint, if there is any, and say what was wrong with newer ones.

        Raises InputError when it is of another model or other data than `identity`, or when all are damaged.
        """
        folder, progress, damaged = self._newest_whole()
        if folder is not None:
            check_identity(progress.identity, identity, folder)
            self._read(engine, folder, progress)
        return progress, damaged

    def load_weights(self, chunks: Sequence[nn.Module], identity: dict[str, Any]) -> tuple[Progress, list[str]]:
        """Fill the weights of chunks that no optimizer holds, and say what was wrong with newer checkpoints.

        Raises InputError when there is no checkpoint, or when it differs from `identity` in a setting named there.
        """
        folder, progress, damaged = self._newest_whole()
        if folder is None:
            raise InputError(f"{self.folder}: holds no checkpoint; train first, or name the run's folder")
        check_identity({key: progress.identity.get(key) for key in identity}, identity, folder)
        items = list(named_parameters(chunks))
        state = self._empty(items, (WEIGHT,))
        read_state(state, checkpoint_id=folder, process_group=self._group)
        for item in items:
            item.parameter.data.copy_(state.pop(f"{WEIGHT}.{item.name}").to_local().view(item.parameter.shape))
        return progress, damaged

    def _newest_whole(self) -> tuple[Path | None, Progress, list[str]]:
        """Folder and progress of the newest whole checkpoint, or None; and what was wrong with newer ones."""
        answer: list[Any] = [None]
        damaged: list[str] = []
        for folder in candidates(self.folder):
            problems = self._verify(folder)
            if problems:
                damaged.append(f"{folder}: {'; '.join(problems)}")
                continue
            if self.context.is_main:
                answer = [json.loads((folder / PROGRESS).read_text(encoding="utf-8"))]
            dist.broadcast_object_list(answer, src=0)
            return folder, Progress(**answer[0]), damaged
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

    def _read(self, engine: Engine, folder: Path, progress: Progress) -> None:
        """Fill weights and moments."""
        updates = progress.step - progress.skipped_steps
        if updates:
            engine.create_moments()
            engine.link_moments()
        items = list(engine.parameters())
        state = self._empty(items, (WEIGHT, *MOMENTS))
        read_state(state, checkpoint_id=folder, process_group=self._group)
        device = self.context.device.torch
        for item in items:
            for key in (WEIGHT, *MOMENTS):
                value = state.pop(f"{key}.{item.name}").to_local().to(device)
                if key == WEIGHT:
                    _set_weight(item, value, zero_stage=engine.config.parallel.zero_stage)
                elif updates:
                    safe_set_full_optimizer_state(item.parameter, value, key)
        engine.set_update_count(updates)


class _MainRankError(Exception):
    """What rank 0 could not do."""


def _set_weight(item: NamedParameter, value: Tensor, zero_stage: int) -> None:
    """Both the fp32 master and the model's own copy: DeepSpeed's setter leaves the latter stale, silently."""
    safe_set_full_fp32_param(item.parameter, value)
    if zero_stage < 3:
        item.parameter.data.copy_(value)
        return
    with deepspeed.zero.GatheredParameters([item.parameter], modifier_rank=0):
        item.parameter.data.copy_(value)


def steps_in(folder: Path) -> list[int]:
    """Steps of the visible checkpoints, in no order."""
    if not folder.is_dir():
        return []
    return [int(match[1]) for path in folder.iterdir() if path.is_dir() and (match := NAME.fullmatch(path.name))]


def candidates(folder: Path) -> Iterator[Path]:
    """Checkpoints, newest first."""
    for step in sorted(steps_in(folder), reverse=True):
        yield folder / f"step_{step:08d}"


def problems_of(folder: Path, part: int = 0, parts: int = 1) -> list[str]:
    """What is wrong with a checkpoint: files missing, of another size or content. Checks files part, part + parts, …"""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format"], dict(manifest["files"])
        entries = [(name, int(entry["bytes"]), str(entry["sha256"])) for name, entry in sorted(files.items())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{MANIFEST} can't be read ({type(error).__name__})"]
    if version != FORMAT:
        return [f"format {version}, and this version reads {FORMAT}"]
    problems = []
    for name, size, digest in entries[part::parts]:
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != size:
            problems.append(f"{name} has {path.stat().st_size} bytes instead of {size}")
        elif _sha256(path) != digest:
            problems.append(f"{name} is not what was written (checksum)")
    return problems


def model_identity(config: RunConfig) -> dict[str, Any]:
    """Settings with another value of which it would be another model."""
    return {f"model.{key}": value for key, value in config.model.model_dump(exclude={"dropout"}).items()}


def check_identity(saved: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    """Refuse to go on with another model or other data than the checkpoint's."""
    differences = [
        f"{key} is {wanted.get(key)!r} and was {saved.get(key)!r}"
        for key in sorted({*saved, *wanted})
        if saved.get(key) != wanted.get(key)
    ]
    if differences:
        raise InputError(
            f"{folder} is a checkpoint of another run: {'; '.join(differences)}; set these back, or choose a new "
            "folder with --out"
        )


def _fresh_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def _hashes(folder: Path, pattern: str) -> dict[str, dict[str, Any]]:
    return {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(folder.glob(pattern))}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _reason(error: BaseException) -> str:
    """The cause in a few words, out of torch's wrapping."""
    if isinstance(error, CheckpointException):
        inner = next(iter(error.failures.values()))[0]
        return _reason(inner)
    if isinstance(error, OSError) and error.errno is not None:
        known = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "read-only"}
        return known.get(error.errno, os.strerror(error.errno))
    text = str(error)
    # torch's zip writer hides the errno of a failed write, and finds itself at another place than it should be.
    hidden = "PytorchStreamWriter" in text or "unexpected pos" in text
    return "the disk is full or failing" if hidden else text
