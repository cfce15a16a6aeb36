"""Rows of the book: every prompt with every setting, continued by one checkpoint, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_nlg.evaluation.samples.prompts import Entry
from megatron_nlg.generation.jobs import Job
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.sequence import Result

ROWS = "samples.jsonl"


@dataclass(frozen=True)
class Book(Job):
    """A job whose prompts have settings of their own."""

    entries: Sequence[Entry] = ()

    @classmethod
    def of(cls, entries: Sequence[Entry], out: Path, step: int) -> Book:
        """Of a checkpoint of that step."""
        return cls([entry.prompt for entry in entries], Sampling(), out, step, entries)

    def settings(self, index: int) -> Sampling:
        """Of one row."""
        return self.entries[index].sampling

    def row(self, result: Result) -> dict[str, Any]:
        """As a job's, with its place in the book."""
        entry = self.entries[result.index]
        return super().row(result) | {"kind": entry.kind, "number": entry.number, "setting": entry.setting}


@dataclass(frozen=True)
class Column:
    """What one checkpoint has written."""

    name: str
    texts: list[str]
    """Of each entry."""


def read_column(name: str, path: Path, entries: Sequence[Entry]) -> Column:
    """From the rows of a book that is complete."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    texts = {int(row["index"]): str(row["text"]) for row in rows}
    return Column(name, [texts[index] for index in range(len(entries))])
