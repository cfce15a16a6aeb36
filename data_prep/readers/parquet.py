"""Parquet files with a column of texts to documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.readers.base import DETAIL_CHARACTERS, InputFile, Part, Reject, only, too_large
from data_prep.recipe import Source
from data_prep.shards import SCHEMA

_ROWS = 2048


def read_parquet(file: InputFile, source: Source) -> Iterator[Part]:
    """Documents of the rows: `text_key`, `url`, and all other columns as attributes."""
    size, row = Path(file.path).stat().st_size, 1
    try:
        with Path(file.path).open("rb") as stream:
            table = pq.ParquetFile(stream)
            problem = _problem(table.schema_arrow, source.text_key)
            if problem:
                yield only(Reject(file.name, None, *problem, size), source.name)
                return
            for batch in table.iter_batches(_ROWS, use_threads=False):
                yield _part(batch, file.name, row, source)
                row += batch.num_rows
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        detail = f"the rest of the file is lost from row {row} on: {error}"[:DETAIL_CHARACTERS]
        yield only(Reject(file.name, None, "damaged_parquet", detail, 0), source.name)


def _problem(schema: pa.Schema, key: str) -> tuple[str, str] | None:
    if key not in schema.names:
        return "missing_text", f"no column {key!r}; it has {', '.join(schema.names)}; set the source's text_key"
    kind = schema.field(key).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return "wrong_type", f"column {key!r} holds {kind}, not strings"
    return None


def _part(batch: pa.RecordBatch, name: str, row: int, source: Source) -> Part:
    texts = batch.column(source.text_key)
    texts.validate(full=True)
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    large = sizes > source.max_document_bytes
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    blank = pc.invert(pc.match_substring_regex(texts, r"\A[\n ]?[!-~]")).fill_null(True).to_numpy(zero_copy_only=False)
    for i in np.flatnonzero(blank & ~missing):
        blank[i] = not texts[int(i)].as_py().strip()
    rejects = []
    for i in np.flatnonzero(large | blank):
        if missing[i]:
            rejects.append(Reject(name, row + int(i), "wrong_type", f"{source.text_key!r} holds null, not a string", 0))
        elif large[i]:
            rejects.append(too_large(name, row + int(i), int(sizes[i]), source.max_document_bytes))
        else:
            rejects.append(Reject(name, row + int(i), "empty", "", int(sizes[i])))
    keep = pa.array(~(large | blank))
    numbers = pc.cast(pa.array(np.arange(row, row + len(texts))), pa.string())
    ids = pc.binary_join_element_wise(f"{source.name}/{name}", numbers, ":")
    urls, attributes = _others(batch, source.text_key)
    arrays = [ids, texts.cast(pa.large_string()), pa.repeat(source.name, len(texts)), urls, attributes]
    return Part(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA).filter(keep), rejects)


def _others(batch: pa.RecordBatch, key: str) -> tuple[pa.Array, pa.Array]:
    """The urls, and JSON objects of the other columns; values that JSON does not know are written as text."""
    names = [name for name in batch.schema.names if name != key]
    urls = pa.nulls(batch.num_rows, pa.string())
    if "url" in names and pa.types.is_string(batch.schema.field("url").type):
        urls = batch.column("url")
        names.remove("url")
    if not names:
        return urls, pa.nulls(batch.num_rows, pa.string())
    rows = batch.select(names).to_pylist()
    return urls, pa.array([json.dumps(row, sort_keys=True, default=str) for row in rows], pa.string())
