"""Documents between stages: Parquet shards, zstd, one row a document. The same documents are the same bytes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.files import replacing
from megatron_nlg.config.errors import InputError

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),  # 64-bit offsets: a batch may pass 2 GiB
        ("source", pa.string()),
        ("url", pa.string()),
        ("attributes", pa.string()),  # JSON object
    ]
)
# Texts repeat nowhere, and pages of 8 MB are read a third faster than those of 1 MB.
_FORM: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["source"], "data_page_size": 8 << 20}
_GROUP_ROWS = 4096
_GROUP_BYTES = 32 << 20
"""Text in a row group, which is what is held in memory at a time."""


class Document(NamedTuple):
    """One document. `attributes` is a JSON object as text; None when there are none."""

    id: str
    text: str
    source: str
    url: str | None = None
    attributes: str | None = None


def write_shard(path: Path, documents: Sequence[Document]) -> None:
    """Write documents as one shard, atomically."""
    columns: list[tuple[Any, ...]] = list(zip(*documents, strict=True)) if documents else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    write_table(path, pa.Table.from_arrays(arrays, schema=SCHEMA))


class ShardWriter:
    """Writes record batches of the shards' schema as one shard, atomically; holds one row group in memory."""

    def __init__(self, path: Path):
        self._stack = ExitStack()
        temporary = self._stack.enter_context(replacing(path))
        stream = self._stack.enter_context(temporary.open("wb"))
        self._writer = self._stack.enter_context(pq.ParquetWriter(stream, SCHEMA, **_FORM))
        self._held: list[pa.RecordBatch] = []
        self._rows, self._bytes = 0, 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add documents."""
        if batch.num_rows:
            self._held.append(batch)
            self._rows += batch.num_rows
            self._bytes += int(text_bytes(batch.column("text")).sum())
            if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held, SCHEMA).combine_chunks()
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._held, self._rows, self._bytes = [], 0, 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            try:
                if self._held:
                    self._flush()
            except BaseException:
                self._stack.__exit__(*sys.exc_info())
                raise
        self._stack.__exit__(kind, error, trace)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table of the shards' schema, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        pq.write_table(table, stream, row_group_size=_GROUP_ROWS, **_FORM)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard; raises InputError for a missing or damaged one."""
    try:
        with path.open("rb") as stream:
            return pq.read_table(stream, columns=columns, use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a readable shard: {error}; remove its folder and prepare again") from None


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The documents of a shard as record batches, one row group in memory; raises InputError for a damaged one."""
    try:
        with path.open("rb") as stream:
            file = pq.ParquetFile(stream)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=columns, use_threads=False)
                yield from table.combine_chunks().to_batches()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a readable shard: {error}; remove its folder and prepare again") from None


def with_texts(batch: pa.RecordBatch, texts: pa.Array) -> pa.RecordBatch:
    """The batch with other texts [documents]."""
    return batch.set_column(batch.schema.get_field_index("text"), SCHEMA.field("text"), texts)


def with_attributes(batch: pa.RecordBatch, added: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The batch with attributes added or replaced: for each name JSON texts [documents], null for those without it."""
    index = batch.schema.get_field_index("attributes")
    old = batch.column(index)
    pieces = [pc.binary_join_element_wise(f", {json.dumps(name)}: ", values, "") for name, values in added.items()]
    members = pc.binary_join_element_wise(*[pc.fill_null(piece, "") for piece in pieces], "")
    body = pc.utf8_slice_codeunits(pc.fill_null(old, "{}"), 1, -1)  # without its braces
    joint = pc.binary_join_element_wise(body, members, "")
    joint = pc.if_else(pc.equal(body, ""), pc.utf8_slice_codeunits(joint, 2), joint)
    joint = pc.if_else(pc.equal(joint, ""), None, pc.binary_join_element_wise("{", joint, "}", ""))
    for name in added:  # rare: one of that name is there already
        twice = pc.fill_null(pc.match_substring(old, f"{json.dumps(name)}:"), False)
        if pc.any(twice).as_py():
            once = [json.dumps(json.loads(text)) for text in joint.filter(twice).to_pylist()]
            joint = pc.replace_with_mask(joint, twice, pa.array(once, pa.string()))
    return batch.set_column(index, SCHEMA.field("attributes"), joint)


def copy_shard(path: Path, target: Path) -> None:
    """The same bytes in another place, atomically."""
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)


def text_bytes(texts: pa.ChunkedArray | pa.Array) -> NDArray[np.int64]:
    """UTF-8 bytes of each text; [documents]."""
    sizes: NDArray[np.int64] = pc.binary_length(texts).to_numpy()
    return sizes


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a shard one by one: for looking at them, not for work on all of them."""
    for batch in read_batches(path):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Document(*row)
