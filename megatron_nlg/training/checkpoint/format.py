"""The folder of a checkpoint: names, manifest, verification, retention, and what older formats lack. No torch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.files import file_sha256, fingerprint
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import Model, RunConfig, SequenceWarmup
from megatron_nlg.data.clock import TokenClock

FORMAT = 2
LATEST = "latest"
MANIFEST = "manifest.json"
PROGRESS = "progress.json"
NAME = re.compile(r"step_(\d{8,})")
WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")
EVERYTHING = (WEIGHT, *MOMENTS)


@dataclass(frozen=True)
class Progress:
    """Where training is, and what a run that goes on from here must share with the one that wrote it."""

    step: int = 0
    """Steps taken, skipped ones included."""
    consumed_samples: int = 0
    """Sequences read: the whole state of the data."""
    skipped_steps: int = 0
    """Steps that changed nothing because their gradient was not finite, or that the loss guard has skipped; Adam has
    not counted them."""
    loss_scale: dict[str, float] = field(default_factory=dict)
    """State of fp16's dynamic loss scale; empty in other precisions."""
    guard: dict[str, Any] = field(default_factory=dict)
    """State of the loss guard (guard.GuardState)."""
    identity: dict[str, Any] = field(default_factory=dict)
    """Dotted setting -> value, of all that makes it the same model on the same data."""

    @property
    def tokens(self) -> int:
        """Tokens read."""
        warmup = self.identity.get("schedule.sequence_warmup")
        length = int(self.identity.get("data.classification.max_length", self.identity.get("model.sequence_length", 0)))
        return TokenClock(length, SequenceWarmup(**warmup) if warmup else None).tokens(self.consumed_samples)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of."""

    format: int
    """The format it was written in, before migration."""
    files: dict[str, dict[str, Any]]
    """File name -> {"bytes", "sha256"}."""
    contents: tuple[str, ...]
    """What is stored of each parameter: "weight" and, unless it is weights only, both moments."""
    parameters: dict[str, list[int]]
    """Global name -> whole shape; all are fp32. {} in format 1, whose `.metadata` knows them."""
    written_by: dict[str, Any]
    """Layout, ZeRO stage and precision of the run that wrote it; {} when that is not known."""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(int(entry["bytes"]) for entry in self.files.values())


def _from_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Format 1 always holds everything, and does not say by which layout nor of which parameters."""
    return manifest | {"contents": list(EVERYTHING), "parameters": {}, "written_by": {}}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""Format -> what makes its manifest one of the next format. The tensor files are read alike in all of them."""


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with its own checksum, over its content."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return content | {"sha256": fingerprint(content)}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint, migrated. Raises InputError when it is damaged or of a later format."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = int(raw["format"])
        if version not in range(1, FORMAT + 1):
            raise InputError(f"format {version}, and this version reads formats 1 to {FORMAT}")
        if version > 1 and raw != sealed(raw):
            raise InputError(f"{MANIFEST} is not what was written (checksum)")
        for old in range(version, FORMAT):
            raw = MIGRATIONS[old](raw)
        files = {str(n): {"bytes": int(e["bytes"]), "sha256": str(e["sha256"])} for n, e in raw["files"].items()}
        parameters = {str(name): [int(n) for n in shape] for name, shape in raw["parameters"].items()}
        return Manifest(version, files, tuple(raw["contents"]), parameters, dict(raw["written_by"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{MANIFEST} can't be read ({type(error).__name__})") from None


def read_progress(folder: Path) -> Progress:
    """Where training was. Raises InputError when the file is damaged.

    Settings of the model that its version did not know had their default: that is what new settings leave unchanged.
    """
    try:
        progress = Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
        if progress.identity:
            progress.identity.update(model_defaults() | progress.identity)
        return progress
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / PROGRESS}: can't be read ({type(error).__name__}); use another one") from None


def problems_of(folder: Path, part: int = 0, parts: int = 1) -> list[str]:
    """What is wrong with a checkpoint: files missing, of another size or content. Checks files part, part + parts, …"""
    try:
        files = read_manifest(folder).files
    except InputError as error:
        return [str(error)]
    return [text for name in sorted(files)[part::parts] if (text := problem_of(folder / name, files[name]))]


def problem_of(path: Path, entry: dict[str, Any]) -> str | None:
    """What is wrong with one file, every byte of which is read."""
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"{path.name} has {size} bytes instead of {entry['bytes']}"
        same = file_sha256(path) == entry["sha256"]
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} can't be read: {error.strerror}"
    return None if same else f"{path.name} is not what was written (checksum)"


# ---- folders of checkpoints --------------------------------------------------------------------------------------


def name_of(step: int) -> str:
    """Name of the checkpoint of a step."""
    return f"step_{step:08d}"


def steps_in(folder: Path) -> list[int]:
    """Steps of the visible checkpoints, in no order."""
    if not folder.is_dir():
        return []
    return [int(match[1]) for path in folder.iterdir() if path.is_dir() and (match := NAME.fullmatch(path.name))]


def candidates(folder: Path) -> Iterator[Path]:
    """Checkpoints, newest first."""
    for step in sorted(steps_in(folder), reverse=True):
        yield folder / name_of(step)


def locate(path: Path) -> list[Path]:
    """Checkpoints that a path means, newest first: one checkpoint, a folder of them, or a run's folder.

    Raises InputError when there is none.
    """
    if (path / MANIFEST).is_file():
        return [path]
    found = [*candidates(path), *candidates(path / "checkpoints")]
    if not found:
        raise InputError(f"{path}: holds no checkpoint; name a run's folder, its checkpoints/, or one step_…")
    return found


def kept(steps: Sequence[int], keep_last: int, keep_every: int) -> dict[int, str]:
    """Step -> why the retention policy keeps it; steps that it does not keep are left out."""
    newest = sorted(steps)[-keep_last:]
    reasons = dict.fromkeys(newest, f"newest {keep_last}")
    if keep_every:
        reasons = {step: f"every {keep_every}" for step in steps if step % keep_every == 0} | reasons
    return reasons


def remove(folder: Path) -> None:
    """Delete a checkpoint: gone at once, and never seen half-deleted."""
    hidden = folder.with_name(f".{folder.name}.pruned")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


# ---- identity ----------------------------------------------------------------------------------------------------


def model_identity(config: RunConfig) -> dict[str, Any]:
    """Settings with another value of which it would be another model."""
    return {f"model.{key}": value for key, value in config.model.model_dump(exclude={"dropout"}).items()}


def model_defaults() -> dict[str, Any]:
    """What model_identity says of settings that a config leaves out."""
    fields = {key: field for key, field in Model.model_fields.items() if not field.is_required() and key != "dropout"}
    return {f"model.{key}": field.get_default(call_default_factory=True) for key, field in fields.items()}


def model_part(identity: dict[str, Any]) -> dict[str, Any]:
    """What of an identity another run must share to take its weights: how they were drawn does not matter."""
    return {key: value for key, value in identity.items() if key.startswith("model.") and key != "model.init_std"}


def check_identity(saved: dict[str, Any], wanted: dict[str, Any], folder: Path, mend: str = "") -> None:
    """Refuse to go on with another model or other data than the checkpoint's."""
    differences = [
        f"{key} is {wanted.get(key)!r} and was {saved.get(key)!r}"
        for key in sorted({*saved, *wanted})
        if saved.get(key) != wanted.get(key)
    ]
    if differences:
        mend = mend or "set these back, or choose a new folder with --out"
        raise InputError(f"{folder} is a checkpoint of another run: {'; '.join(differences)}; {mend}")
