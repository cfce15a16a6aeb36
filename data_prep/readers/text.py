"""Text files to documents: whole, by paragraphs or by cuts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from data_prep.readers.base import InputFile, Part, Reject, too_large
from data_prep.readers.streams import open_stream, parts_of
from data_prep.recipe import Source
from data_prep.shards import Document

_BOM = b"\xef\xbb\xbf"


def read_text(file: InputFile, source: Source) -> Iterator[Part]:
    """Documents of a text file, as `split` says."""
    with open_stream(Path(file.path)) as stream:
        yield from parts_of(_SPLITS[source.split](stream, file.name, source), file, source.name)


def read_at_most(stream: io.BufferedIOBase, name: str, limit: int) -> bytes | Reject:
    """All that is left of a stream, or a reject when that is more than `limit` bytes, which are not held in memory."""
    data = stream.read(limit + 1)
    if len(data) <= limit:
        return data
    size = len(data)
    while more := stream.read(1 << 20):
        size += len(more)
    return too_large(name, 1, size, limit)


def _read_whole(stream: io.BufferedIOBase, name: str, source: Source) -> Iterator[Document | Reject]:
    data = read_at_most(stream, name, source.max_document_bytes)
    yield data if isinstance(data, Reject) else _decode(data.removeprefix(_BOM), name, 1, name, source)


def _read_parts(stream: io.BufferedIOBase, name: str, source: Source) -> Iterator[Document | Reject]:
    whole = _decode(stream.read().removeprefix(_BOM), name, 1, name, source, limited=False)
    if isinstance(whole, Reject):
        yield whole
        return
    text = whole.text
    cuts = [len(text) * i // source.parts for i in range(source.parts + 1)]
    if source.split == "parts_at_lines":
        cuts[1:-1] = [text.rfind("\n", 0, cut) + 1 for cut in cuts[1:-1]]
    for i, (start, end) in enumerate(pairwise(cuts)):
        if end > start:
            yield whole._replace(id=f"{whole.id}#{i}", text=text[start:end])


def _read_paragraphs(stream: io.BufferedIOBase, name: str, source: Source) -> Iterator[Document | Reject]:
    lines: list[bytes] = []
    start = 1
    for number, line in enumerate(stream, 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            start = start if lines else number
            lines.append(text)
        elif lines:
            yield _decode(b"".join(lines), name, start, f"{name}:{start}", source)
            lines = []
    if lines:
        yield _decode(b"".join(lines), name, start, f"{name}:{start}", source)


def _decode(data: bytes, name: str, line: int, where: str, source: Source, limited: bool = True) -> Document | Reject:
    """A document of a text file, or why not; `line` is the first line of `data`."""
    if limited and len(data) > source.max_document_bytes:
        return too_large(name, line, len(data), source.max_document_bytes)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line + data.count(b"\n", 0, error.start)
        return Reject(name, bad, "invalid_utf8", f"byte {data[error.start]:#04x}: {error.reason}", len(data))
    if not text.strip():
        return Reject(name, line, "empty", "", len(data))
    return Document(f"{source.name}/{where}", text, source.name)


_SPLITS: dict[str, Callable[[io.BufferedIOBase, str, Source], Iterator[Document | Reject]]] = {
    "file": _read_whole,
    "blank_lines": _read_paragraphs,
    "parts": _read_parts,
    "parts_at_lines": _read_parts,
}
