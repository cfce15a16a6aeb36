"""Documents between stages: Parquet shards, zstd, one row a document. The same documents are the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
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
_GROUP_ROWS = 4096


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


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table of the shards' schema, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        pq.write_table(table, stream, compression="zstd", row_group_size=_GROUP_ROWS)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard; raises InputError for a missing or damaged one."""
    try:
        with path.open("rb") as stream:
            return pq.read_table(stream, columns=columns, use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a readable shard: {error}; remove its folder and prepare again") from None


def copy_shard(path: Path, target: Path) -> None:
    """The same bytes in another place, atomically."""
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)


def text_bytes(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """UTF-8 bytes of each text; [documents]."""
    sizes: NDArray[np.int64] = pc.binary_length(texts).to_numpy()
    return sizes


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a shard, row group by row group."""
    for batch in read_table(path).to_batches(_GROUP_ROWS):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Document(*row)
