"""What every reader yields: batches of documents, and the records that did not become one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from data_prep.recipe import Source
from data_prep.shards import SCHEMA

DETAIL_CHARACTERS = 200
FLUSH_BYTES = 8 << 20
"""Text that a reader holds before it hands on a batch."""
HTML = "text/html"
"""The `content_type` attribute of documents that the extract stage works on."""


class InputFile(NamedTuple):
    """A file to read, the name it has in ids and reports, and how it is read (None: its ending is not known).

    Lines that start in the bytes `start` to `end` are read; `line` is the number of the first of them.
    """

    path: str
    name: str
    format: str | None
    start: int = 0
    end: int | None = None
    line: int = 1


class Reject(NamedTuple):
    """A record that did not become a document: a line of `rejects.jsonl`."""

    file: str
    line: int | None
    """From 1; of WARC and Parquet files the number of the record or row."""
    reason: str
    detail: str
    size: int
    """Bytes of the raw record."""


class Part(NamedTuple):
    """Some of a file's documents, of the shards' schema, and the rejects on the way."""

    documents: pa.RecordBatch
    rejects: list[Reject]


Reader = Callable[[InputFile, Source], Iterator[Part]]


class Collector:
    """Rows and rejects on their way into a Part, for formats whose records come one by one."""

    def __init__(self, source: str):
        self.source = source
        self.rows: list[tuple[str, Any, str | None, str | None]] = []
        self.rejects: list[Reject] = []
        self.size = 0

    def add(self, identity: str, text: str | bytes, url: str | None = None, attributes: str | None = None) -> None:
        """A document; `text` may be UTF-8 bytes already known to be valid."""
        self.rows.append((identity, text, url, attributes))
        self.size += len(text)

    def full(self) -> bool:
        """Whether it is time to take."""
        return self.size >= FLUSH_BYTES or len(self.rows) + len(self.rejects) >= 1 << 16

    def take(self) -> Part:
        """What was collected; empties it."""
        columns: list[Any] = list(zip(*self.rows, strict=True)) if self.rows else [()] * 4
        identity, text, url, attributes = columns
        arrays = [identity, text, [self.source] * len(self.rows), url, attributes]
        made = [pa.array(values, field.type) for values, field in zip(arrays, SCHEMA, strict=True)]
        part = Part(pa.RecordBatch.from_arrays(made, schema=SCHEMA), self.rejects)
        self.rows, self.rejects, self.size = [], [], 0
        return part


def only(reject: Reject, source: str) -> Part:
    """A part of one reject."""
    collector = Collector(source)
    collector.rejects.append(reject)
    return collector.take()


def too_large(file: str, line: int | None, size: int, limit: int) -> Reject:
    """A document over `max_document_bytes`."""
    return Reject(file, line, "too_large", f"{size:,} bytes; max_document_bytes is {limit:,}", size)


def html_attributes(**more: str | None) -> str:
    """Attributes of an HTML document."""
    known = {key: value for key, value in more.items() if value}
    return json.dumps({"content_type": HTML, **known}, sort_keys=True)
