"""JSON lines to documents, in blocks of whole lines: a block is parsed at once, or line by line where that can't be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.readers.base import DETAIL_CHARACTERS, Collector, InputFile, Part, Reject, only, too_large
from data_prep.readers.json_block import BlockParser
from data_prep.readers.streams import STREAM_ERRORS, open_stream, range_chunks, stream_reject
from data_prep.recipe import Source
from data_prep.shards import SCHEMA

_BLOCK_BYTES = 4 << 20
_LONG_LINE = 64 << 20
"""Longer lines are not held in memory, unless max_document_bytes says otherwise: an escaped character is six bytes."""
_BOM = b"\xef\xbb\xbf"


def read_jsonl(file: InputFile, source: Source) -> Iterator[Part]:
    """Documents of a file's lines, in order; each line that is none is a reject."""
    parser = BlockParser(source.text_key)
    line, first = file.line, file.start == 0
    try:
        with open_stream(Path(file.path)) as stream:
            chunks = range_chunks(stream, file.start, file.end, _BLOCK_BYTES)
            for block in _blocks(chunks, max(8 * source.max_document_bytes, _LONG_LINE)):
                if isinstance(block, int):
                    yield only(too_large(file.name, line, block, source.max_document_bytes), source.name)
                    line += 1
                    continue
                whole = block.removeprefix(_BOM) if first else block
                first = False
                part = _fast(parser, whole, file.name, line, source)
                yield part or read_lines(whole, file.name, line, source)
                line += part.documents.num_rows if part else whole.count(b"\n")
    except STREAM_ERRORS as error:
        yield only(stream_reject(file, error), source.name)


def _blocks(chunks: Iterator[bytes], max_line: int) -> Iterator[bytes | int]:
    """Blocks of whole lines, the last perhaps without its end; a line over `max_line` bytes is only its length.

    When `chunks` raises, whole lines before that are yielded first.
    """
    held: list[bytes] = []
    size, newline, skipped = 0, False, 0  # skipped: bytes so far of a line too long to hold
    failure: Exception | None = None
    while True:
        try:
            chunk = next(chunks, None)
        except STREAM_ERRORS as error:
            chunk, failure = None, error
        if chunk is None:
            break
        if skipped:
            end = chunk.find(b"\n") + 1
            skipped += end or len(chunk)
            if not end:
                continue
            yield skipped
            chunk, skipped = chunk[end:], 0
        held.append(chunk)
        size, newline = size + len(chunk), newline or b"\n" in chunk
        if newline and size >= _BLOCK_BYTES:
            whole = b"".join(held)
            cut = whole.rfind(b"\n") + 1
            yield whole[:cut]
            held, size, newline = [whole[cut:]], len(whole) - cut, False
        elif not newline and size > max_line:
            held, size, skipped = [], 0, size
    rest = b"".join(held)
    if failure:
        rest = rest[: rest.rfind(b"\n") + 1]  # half a line
    if skipped or rest:
        yield skipped or rest
    if failure:
        raise failure


def _fast(parser: BlockParser, block: bytes, name: str, line: int, source: Source) -> Part | None:
    columns = parser.parse(block)
    if columns is None:
        return None
    sizes = pc.binary_length(columns.texts)
    if pc.max(sizes).as_py() > source.max_document_bytes or _any_empty(columns.texts):
        return None
    count = len(columns.texts)
    numbers = pc.cast(pa.array(np.arange(line, line + count)), pa.string())
    ids = pc.binary_join_element_wise(f"{source.name}/{name}", numbers, ":")
    arrays = [ids, columns.texts, pa.repeat(source.name, count), columns.urls, columns.attributes]
    return Part(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA), [])


def _any_empty(texts: pa.Array) -> bool:
    """Whether a text is white space alone; most show by their first characters that they are not."""
    doubtful = texts.filter(pc.invert(pc.match_substring_regex(texts, r"^[\n ]?[!-~]")))
    starts = pc.utf8_slice_codeunits(doubtful, 0, 64).to_pylist()
    return any(not start.strip() and not doubtful[i].as_py().strip() for i, start in enumerate(starts))


def read_lines(block: bytes, name: str, line: int, source: Source) -> Part:
    """The exact way: what every line is, one by one."""
    collector = Collector(source.name)
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, raw in enumerate(lines, line):
        if not raw.strip():
            continue
        size = len(raw) + 1
        row, reason, detail = _parse(raw, source.text_key)
        if reason:
            collector.rejects.append(Reject(name, number, reason, detail[:DETAIL_CHARACTERS], size))
            continue
        text = row.pop(source.text_key)
        length = len(text.encode())
        if length > source.max_document_bytes:
            collector.rejects.append(too_large(name, number, length, source.max_document_bytes))
            continue
        collector.add(f"{source.name}/{name}:{number}", text, *split_row(row))
    return collector.take()


def split_row(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """A row's url, and all other keys as the attributes' JSON; None for neither. Takes the url out of the row."""
    url = row.get("url")
    if isinstance(url, str) and _encodable(url):
        del row["url"]
    else:
        url = None
    return url, json.dumps(row, sort_keys=True) if row else None


def _parse(line: bytes, key: str) -> tuple[dict[str, Any], str, str]:
    """A JSON line's object, or the reason and the detail of its rejection."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return {}, "invalid_utf8", f"byte {line[error.start]:#04x} at column {error.start + 1}: {error.reason}"
    except (ValueError, RecursionError) as error:
        return {}, "invalid_json", str(error)
    if not isinstance(row, dict):
        return {}, "not_an_object", f"a JSON object is expected, not {type(row).__name__}"
    return row, *_text_problem(row, key)


def _text_problem(row: dict[str, Any], key: str) -> tuple[str, str]:
    if key not in row:
        return "missing_text", f"no key {key!r}; it has {', '.join(map(repr, row))}"
    text = row[key]
    if not isinstance(text, str):
        return "wrong_type", f"{key!r} holds {type(text).__name__}, not a string"
    if not _encodable(text):
        return "invalid_unicode", f"{key!r} holds half of a surrogate pair"
    return "" if text.strip() else "empty", ""


def _encodable(text: str) -> bool:
    """JSON can spell half of a surrogate pair, which no UTF-8 file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
