"""How a folder of tensors becomes a visible checkpoint: all at once, or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import MetadataIndex

from data_prep.files import file_sha256, make_folder, sync
from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.training.callbacks.metrics import replace_text
from megatron_nlg.training.checkpoint.format import (
    EVERYTHING,
    FORMAT,
    LATEST,
    MANIFEST,
    PROGRESS,
    Progress,
    name_of,
    sealed,
)
from megatron_nlg.training.checkpoint.reader import METADATA, Source
from megatron_nlg.training.checkpoint.state import Piece
from megatron_nlg.training.checkpoint.writer import Planner, write


def publish_alone(
    folder: Path,
    progress: Progress,
    pieces: Iterable[Piece],
    content: Callable[[MetadataIndex], Tensor],
    written_by: str,
    files: int = 1,
) -> Path:
    """Write a checkpoint of this process's own into a folder of checkpoints; returns where it is.

    `content` is asked for one piece at a time. Raises InputError when the step is there already, MegatronNlgError when
    it can't be written; nothing of it is left then.
    """
    final = folder / name_of(progress.step)
    if final.exists():
        raise InputError(f"{final}: is there already; choose another folder, or remove it")
    partial = folder / f".{final.name}.partial"
    make_folder(folder)
    pieces = list(pieces)
    try:
        fresh_folder(partial)
        with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("writing", total=len(pieces))

            def watched(index: MetadataIndex) -> Tensor:
                bar.advance(task)
                return content(index)

            entries = write(partial, Planner(pieces, watched), files=files)
        seal(partial, progress, entries, {"by": written_by})
        show(partial, final)
        replace_text(folder / LATEST, final.name + "\n")
    except (OSError, CheckpointException) as error:
        if isinstance(error, CheckpointException) and isinstance(cause(error), InputError):
            raise cause(error) from None  # of what it was to be made of
        raise MegatronNlgError(f"{final} can't be written: {reason(error)}; nothing of it is left") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def fresh_folder(path: Path) -> None:
    """An empty folder, whatever was there."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def seal(partial: Path, progress: Progress, files: dict[str, dict[str, Any]], written_by: dict[str, Any]) -> None:
    """Write progress and manifest beside a checkpoint's tensors, `files`, whose metadata torch has written."""
    replace_text(partial / PROGRESS, json.dumps(asdict(progress), indent=1) + "\n")
    small = {
        name: {"bytes": (partial / name).stat().st_size, "sha256": file_sha256(partial / name)}
        for name in (METADATA, PROGRESS)
    }
    source = Source(partial)
    manifest = {
        "format": FORMAT,
        "files": files | small,
        "contents": [key for key in EVERYTHING if any(name.startswith(f"{key}.") for name in source.keys)],
        "parameters": source.parameters(),
        "written_by": written_by,
    }
    replace_text(partial / MANIFEST, json.dumps(sealed(manifest), indent=1, sort_keys=True) + "\n")
    sync(partial)


def show(partial: Path, final: Path) -> None:
    """Make a sealed checkpoint visible, in the place of a damaged one if there is one."""
    replaced = final.with_name(f".{final.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def cause(error: CheckpointException) -> BaseException:
    """What one of the ranks raised."""
    return next(iter(error.failures.values()))[0]


def reason(error: BaseException) -> str:
    """The cause in a few words, out of torch's wrapping."""
    if isinstance(error, CheckpointException):
        return reason(cause(error))
    if isinstance(error, OSError) and error.errno is not None:
        known = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "read-only"}
        return known.get(error.errno, os.strerror(error.errno))
    return str(error)
