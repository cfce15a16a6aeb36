"""Rows of evaluation sets, as lm-evaluation-harness keeps them, to texts."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.recipe.decontaminate import Decontaminate, Task
from megatron_nlg.config.errors import InputError, Problem


def task_files(task: Task, root: Path) -> list[Path]:
    """A task's files in order; a path without a match is in the list as it is, and can't be opened."""
    found: list[Path] = []
    for path in task.paths:
        has_glob = any(c in path for c in "*?[")
        found += (sorted(root.glob(path)) if has_glob and not Path(path).is_absolute() else []) or [root / path]
    return found


def missing_files(settings: Decontaminate, root: Path) -> Iterator[Problem]:
    """Files of tasks that are not there."""
    for i, task in enumerate(settings.tasks):
        for path in task_files(task, root):
            if not path.is_file():
                yield Problem(f"decontaminate.tasks.{i}.paths", f"{path}: no such file", "give JSON-lines files")


def read_task(task: Task, root: Path) -> list[str]:
    """All texts of a task; raises InputError for a file that is no JSON lines, and for a task without text."""
    texts: list[str] = []
    for path in task_files(task, root):
        for number, line in enumerate(_lines(path, task), 1):
            try:
                texts += texts_of(json.loads(line), task.keys) if line.strip() else []
            except ValueError as error:
                raise InputError(
                    f"{path}:{number}: not valid JSON ({error}); mend it, or leave out task {task.name}"
                ) from None
    if not any(text.strip() for text in texts):
        raise InputError(
            f"decontaminate: task {task.name} has no text under {', '.join(task.keys) or 'any key'}; set its keys"
        )
    return texts


def _lines(path: Path, task: Task) -> list[str]:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:  # a cut or foreign file
        raise InputError(
            f"{path}: can't be read as JSON lines: {error}; mend it, or leave out task {task.name}"
        ) from None


def texts_of(row: Any, keys: Sequence[str]) -> Iterator[str]:
    """The texts of a row: under `keys`, or all strings in it."""
    if not keys:
        yield from _strings(row)
    for key in keys:
        value = row
        for part in key.split("."):
            value = _under(value, part)
        yield from _strings(value)


def _under(value: Any, key: str) -> Any:
    """What a mapping has under a key, or each mapping of a list."""
    if isinstance(value, list):
        return [_under(item, key) for item in value]
    return value.get(key) if isinstance(value, dict) else None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
