"""A few documents that a stage kept and dropped: the same ones each time, from shards all over the corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.jobs import Done

COUNT = 10
_SHARDS = 5
_CHARACTERS = 400
_SEARCHED_BYTES = 32 << 20

T = TypeVar("T")


class Sample(NamedTuple):
    """One document, its text cut short."""

    id: str
    text: str
    note: str = ""
    """Why it was dropped, where the stage says so."""


def kept(done: Done) -> list[Sample]:
    """Documents that a stage hands on."""
    found: list[Sample] = []
    names = _spread([name for part in done.summary["shards"].values() for name in part], COUNT)
    for name in names:
        with (done.folder / name).open("rb") as stream:
            file = pq.ParquetFile(stream)
            if file.num_row_groups:
                table = file.read_row_group(file.num_row_groups // 2, ["id", "text"])
                found += _samples(table, _spread(range(len(table)), -(-COUNT // len(names))))
    return found[:COUNT]


def dropped(before: Done, done: Done) -> list[Sample]:
    """Documents that went into a stage and are in none of its shards, in whole or in part."""
    found: list[Sample] = []
    names = [name for part in before.summary["shards"].values() for name in part]
    for name in _spread(names, _SHARDS):
        if not (done.folder / name).exists():
            continue
        was, is_now = (pq.read_table(folder / name, columns=["id"])["id"] for folder in (before.folder, done.folder))
        whole = pc.replace_substring_regex(is_now, r"#\d+$", "")  # pieces of a document are named so
        stayed = pc.or_(pc.is_in(was, value_set=is_now), pc.is_in(was, value_set=whole))
        gone = np.flatnonzero(~stayed.to_numpy())
        if len(gone):
            table = pq.read_table(before.folder / name, columns=["id", "text"])
            found += _samples(table, _spread(gone.tolist(), COUNT))
    some = _spread(found, COUNT)
    notes = _notes(done.folder, {sample.id for sample in some})
    return [sample._replace(note=notes.get(sample.id, "")) for sample in some]


def rejected(path: Path) -> list[Sample]:
    """Records that never became documents: lines of a rejects file."""
    rows = [json.loads(line) for line in _spread(list(_lines(path)), COUNT)]
    return [Sample(f"{row.get('file')}:{row.get('line')}", "", str(row.get("reason", ""))) for row in rows]


def _samples(table: pa.Table, rows: Sequence[int]) -> list[Sample]:
    part = table.take(pa.array(list(rows), pa.int64()))
    texts = pc.utf8_slice_codeunits(part["text"], 0, _CHARACTERS)
    return [Sample(i, t) for i, t in zip(part["id"].to_pylist(), texts.to_pylist(), strict=True)]


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of some items, from all over them."""
    return [items[len(items) * i // min(count, len(items))] for i in range(min(count, len(items)))]


def _notes(folder: Path, wanted: set[str]) -> dict[str, str]:
    """What a stage's own lists say of some documents."""
    notes = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in _lines(path):
            row: dict[str, Any] = json.loads(line)
            if row.get("id") in wanted:
                said = [_plain(row[key]) for key in ("reason", "outcome", "tasks") if row.get(key)]
                same = f"for {row['kept']}" if row.get("kept") else ""
                notes[row["id"]] = " ".join([", ".join(said).replace("_", " "), same]).strip()
    return notes


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lines(path: Path) -> Iterator[str]:
    """Whole lines of the beginning of a file."""
    with path.open(encoding="utf-8") as stream:
        size = 0
        for line in stream:
            size += len(line)
            if size > _SEARCHED_BYTES:
                return
            yield line
