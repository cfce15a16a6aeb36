"""WARC files to documents: the HTML pages among the response records, by warcio."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from data_prep.readers.base import DETAIL_CHARACTERS, HTML, InputFile, Part, Reject, too_large
from data_prep.readers.html import page
from data_prep.readers.streams import parts_of
from data_prep.recipe import Source
from data_prep.shards import Document
from megatron_nlg.config.errors import InputError

_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_:.-]+)""", re.IGNORECASE)
_PAGES = {HTML, "application/xhtml+xml"}
_RECORD = re.compile(rb"WARC/[01]\.\d+\r?\n")
_MEMBER = re.compile(rb"\x1f\x8b\x08")
_SCAN_BYTES = 1 << 20


def read_warc(file: InputFile, source: Source) -> Iterator[Part]:
    """Pages with status 200; ids and rejects count the records, from 1. A damaged record costs itself alone."""
    yield from parts_of(_items(file, source), file, source.name)


def _items(file: InputFile, source: Source) -> Iterator[Document | Reject]:
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError:
        raise InputError(
            f"{file.path}: WARC files need warcio, which is not installed: pip install 'megatron_nlg[web]'"
        ) from None
    number, start = 0, 0
    with Path(file.path).open("rb") as stream:
        while start >= 0:
            stream.seek(start)
            records = ArchiveIterator(stream)
            begun = -1
            try:
                for record in records:
                    number, begun = number + 1, records.offset
                    yield from _record(record, file.name, number, source)
                return
            # A damaged record can raise nearly anything in the layers below.
            except Exception as error:
                number += records.offset != begun  # of the next record not even the header was read
                detail = f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS]
                yield Reject(file.name, number, "damaged_record", detail, 0)
                start = _next_record(stream, records.offset + 1)


def _next_record(stream: IO[bytes], start: int) -> int:
    """Where the next record begins in a file, plain or gzip, at or after `start`; -1 when there is none."""
    stream.seek(0)
    pattern = _MEMBER if stream.read(2) == b"\x1f\x8b" else _RECORD
    stream.seek(start)
    overlap = b""
    while data := stream.read(_SCAN_BYTES):
        found = pattern.search(overlap + data)
        if found:
            return start - len(overlap) + found.start()
        start, overlap = start + len(data), (overlap + data)[-16:]
    return -1


def _record(record: Any, name: str, number: int, source: Source) -> Iterator[Document | Reject]:
    headers = record.http_headers
    if record.rec_type != "response" or headers is None or headers.get_statuscode() != "200":
        return
    kind = headers.get_header("Content-Type") or ""
    if kind.partition(";")[0].strip().lower() not in _PAGES:
        return
    content, limit = record.content_stream(), source.max_document_bytes
    data = content.read(limit + 1)
    if len(data) > limit:
        yield too_large(name, number, limit + 1, limit)
        return
    record.raw_stream.read()
    if record.raw_stream.limit:
        raise EOFError(f"the record ends {record.raw_stream.limit:,} bytes before its Content-Length")
    charset = _CHARSET.search(kind)
    yield page(
        data,
        charset[1] if charset else None,
        f"{source.name}/{name}:{number}",
        name,
        number,
        source,
        record.rec_headers.get_header("WARC-Target-URI"),
        record.rec_headers.get_header("WARC-Date"),
    )
