"""Rows of a study as JSON lines: written as they are finished, gone on with after any interruption.

The first line says which job the rows are of. While the job runs they stand in `.NAME.partial`, in the order in which
they are finished; when all are there they become NAME, in the order of the work, at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.files import replacing
from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.rows import append_row

Row = dict[str, Any]


class Ledger:
    """Rows by their key. `job` is what all of them were made of: another job's rows are refused and left alone."""

    def __init__(self, path: Path, job: Mapping[str, Any]):
        self.path, self.job = path, json.loads(json.dumps(dict(job)))

    @property
    def partial(self) -> Path:
        """While the job runs."""
        return self.path.with_name(f".{self.path.name}.partial")

    def keys(self) -> set[str]:
        """Of the rows that are there. Raises InputError for another job's."""
        return set(self.rows())

    def rows(self) -> dict[str, Row]:
        """Whole rows by key. Raises InputError for a file of another job, and for one that is not of this kind."""
        rows: dict[str, Row] = {}
        for path in (self.path, self.partial):
            rows |= {str(row["key"]): row for row in self._read(path)}
        return rows

    def _read(self, path: Path) -> Iterator[Row]:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                known = "job" in row if number == 1 else "key" in row
            except (ValueError, TypeError):
                known = False
            if not known:
                raise InputError(f"{path}, line {number}: is not a row of this study; choose another --out")
            if number == 1:
                self._check(row["job"], path)
            else:
                yield row

    def _check(self, job: Any, path: Path) -> None:
        differences = list(_differences(job, self.job))
        if differences:
            raise InputError(
                f"{path}: holds rows of another job: {'; '.join(differences)}; set these back, delete the file, or "
                "choose another --out"
            )

    def open(self) -> None:
        """Cut off what a killed job has begun to write, and say which job the rows are of."""
        if self.partial.is_file():
            whole = self.partial.read_bytes().rfind(b"\n") + 1
            os.truncate(self.partial, whole)
        if not self.path.exists() and not (self.partial.is_file() and self.partial.stat().st_size):
            append_row(self.partial, {"job": self.job})

    def append(self, row: Row) -> None:
        """Add a row. Raises MegatronNlgError when the disk is full."""
        append_row(self.partial, row)

    def publish(self, order: Sequence[str]) -> None:
        """All rows in the order of the work, whole or not at all."""
        if not self.partial.is_file():
            return
        rows = self.rows()
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            for row in ({"job": self.job}, *(rows[key] for key in order)):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.partial.unlink()


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Dotted names whose values differ, with both."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            yield from _differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    elif there != here:
        yield f"{name} was {_shown(there)} and is {_shown(here)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 60 else text[:57] + "…"
