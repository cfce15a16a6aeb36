"""Rows of JSONL, one for each text of a file: written as they finish, gone on with after any interruption.

While the job runs, rows stand in `.NAME.partial` in the order in which they finish; when all are there, they become
NAME in the order of the texts, at once.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from data_prep.files import disk_error, replacing, sync
from megatron_nlg.config.errors import InputError


class RowFile(ABC):
    """Where the rows of a job go; each has its `index`, and says what it was made of."""

    out: Path

    @abstractmethod
    def made_of(self, index: int) -> dict[str, Any] | None:
        """What the row of an index says of its text and settings; None for an index that the job does not have."""

    @property
    def partial(self) -> Path:
        """Rows in the order in which they were finished."""
        return self.out.with_name(f".{self.out.name}.partial")

    def finished(self) -> dict[int, dict[str, Any]]:
        """Rows that are written, by index. Raises InputError for those of another job, which are left as they are."""
        found = {}
        for path in (self.out, self.partial):
            for row in _rows(path):
                self._check(row, path)
                found[int(row["index"])] = row
        return found

    def _check(self, row: dict[str, Any], path: Path) -> None:
        index = row.get("index")
        wanted = self.made_of(index) if isinstance(index, int) else None
        differs = "an index that the file does not have"
        if wanted is not None:
            differs = ", ".join(f"another {key}" for key, value in wanted.items() if row.get(key) != value)
        if differs:
            raise InputError(f"{path}: holds rows of another job ({differs}); delete it, or choose another --out")

    def drop_torn_end(self) -> None:
        """Cut off what a killed job has begun to write."""
        if self.partial.is_file():
            whole = self.partial.read_bytes().rfind(b"\n") + 1
            os.truncate(self.partial, whole)

    def append(self, row: dict[str, Any]) -> None:
        """Add a row. Raises MegatronNlgError when the disk is full."""
        append_row(self.partial, row)

    def publish(self) -> None:
        """All rows in the order of their texts, whole or not at all."""
        if not self.partial.is_file():
            return
        rows = {row["index"]: row for row in _rows(self.partial)}
        with replacing(self.out) as temporary:
            lines = (json.dumps(rows[index], ensure_ascii=False) + "\n" for index in sorted(rows))
            temporary.write_text("".join(lines), encoding="utf-8", newline="")
        self.partial.unlink()
        sync(self.out.parent)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Whole rows of a file, [] where there is none."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        rows = [json.loads(line) for line in lines]
    except ValueError:
        rows = [None]
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: is not JSONL of this command; choose another --out")
    return rows


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a line in one write. Raises MegatronNlgError when the disk is full, InputError when it may not be written."""
    data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)
    except OSError as error:
        raise disk_error(error, path) from None
