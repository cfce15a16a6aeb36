"""The n-grams of evaluation tasks as one table, and where they occur in texts.

Looking up is three steps, each on what the one before left: a table of flags by the upper 20 bits of an n-gram's hash,
a search among the sorted hashes, and the words themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.dedup.shingles import Words, buffers, grams, words
from data_prep.shards import read_table, write_table

SHORTEST, LONGEST = 8, 13
_FILTER_BITS = 20


class Matches(NamedTuple):
    """Where n-grams of tasks occur; all [matches], in order of document and position."""

    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    """First byte in the document."""
    ends: NDArray[np.int64]
    """One past the last byte."""
    grams: NDArray[np.int64]
    """Which n-gram: row of the table."""


class NGrams:
    """n-grams by row: hashes, sizes, folded words, and the tasks each is of."""

    def __init__(self, table: pa.Table):
        self._hashes = table["hash"].to_numpy()
        self._sizes = table["size"].to_numpy()
        self.texts: list[str] = table["words"].to_pylist()
        self.tasks: list[list[str]] = table["tasks"].to_pylist()
        self._by_size = {int(size): self._sorted(size) for size in np.unique(self._sizes)}

    def __len__(self) -> int:
        return len(self.texts)

    def _sorted(self, size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
        """Hashes of a size in order, their rows, and which upper bits occur among them."""
        rows = np.flatnonzero(self._sizes == size)
        rows = rows[np.argsort(self._hashes[rows], kind="stable")]
        hashes = self._hashes[rows]
        occurs = np.zeros(1 << _FILTER_BITS, bool)
        occurs[hashes >> np.uint64(64 - _FILTER_BITS)] = True
        return hashes, rows, occurs

    def find(self, texts: Any) -> Matches:
        """All occurrences in an Arrow array of large strings, those that overlap included."""
        found, (data, offsets) = words(texts), buffers(texts)
        none = np.zeros(0, np.int64)
        likely = [(none, none), *(_look_up(grams(found, size), *part) for size, part in self._by_size.items())]
        first, row = (np.concatenate(columns) for columns in zip(*likely, strict=True))
        last = first + self._sizes[row] - 1
        same = [self.texts[r] == _folded(data, found, int(a), int(b)) for a, b, r in zip(first, last, row, strict=True)]
        keep = np.flatnonzero(np.array(same, bool))
        keep = keep[np.lexsort((-last[keep], first[keep]))]
        documents = np.searchsorted(found.documents, first[keep], side="right") - 1
        begins = offsets[documents]
        return Matches(documents, found.starts[first[keep]] - begins, found.ends[last[keep]] - begins, row[keep])


def _look_up(
    found: NDArray[np.uint64], hashes: NDArray[np.uint64], rows: NDArray[np.int64], occurs: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in `found` of hashes of the table, and their rows."""
    likely = np.flatnonzero(occurs[found >> np.uint64(64 - _FILTER_BITS)])
    at = np.minimum(np.searchsorted(hashes, found[likely]), len(hashes) - 1)
    equal = hashes[at] == found[likely]
    return likely[equal], rows[at[equal]]


def _folded(data: Any, found: Words, first: int, last: int) -> str:
    """Words `first` to `last`, in one case, with a space between."""
    view = memoryview(data)
    return " ".join(
        bytes(view[found.starts[i] : found.ends[i]]).decode("utf-8", "replace").casefold()
        for i in range(first, last + 1)
    )


def auto_size(lengths: Sequence[int]) -> int:
    """n for a task: the number of words below which 5 % of its texts lie, within 8 and 13."""
    return int(np.clip(np.quantile(lengths, 0.05, method="lower"), SHORTEST, LONGEST)) if len(lengths) else LONGEST


def write_ngrams(path: Path, tasks: Mapping[str, tuple[Sequence[str], int | None]]) -> dict[str, Any]:
    """Write the table of tasks' n-grams: task -> (texts, n or None for auto). Returns what was made of each task.

    A text of fewer words than n, and of at least 8, is one n-gram.
    """
    rows: dict[tuple[int, int], tuple[str, list[str]]] = {}
    about = {}
    for name, (texts, chosen) in tasks.items():
        array = pa.array(texts, pa.large_string())
        found, (data, _) = words(array), buffers(array)
        lengths = np.diff(found.documents)
        size = chosen or auto_size(lengths[lengths > 0].tolist())
        count = 0
        for number, length in _sizes(lengths, size):
            hashes = grams(found, number)
            for document in np.flatnonzero(length).tolist():
                first, end = int(found.documents[document]), int(found.documents[document + 1])
                for at in range(first, end - number + 1):
                    key = (number, int(hashes[at]))
                    if key not in rows:
                        rows[key] = (_folded(data, found, at, at + number - 1), [])
                    if name not in rows[key][1]:
                        rows[key][1].append(name)
                        count += 1
        short = int(((lengths < SHORTEST) & (lengths < size)).sum())
        about[name] = {"texts": len(texts), "texts_too_short": short, "n": size, "ngrams": count}
    columns = {
        "hash": pa.array([key[1] for key in rows], pa.uint64()),
        "size": pa.array([key[0] for key in rows], pa.int64()),
        "words": pa.array([row[0] for row in rows.values()], pa.large_string()),
        "tasks": pa.array([row[1] for row in rows.values()], pa.list_(pa.string())),
    }
    write_table(path, pa.table(columns))
    return about


def _sizes(lengths: NDArray[np.int64], size: int) -> list[tuple[int, NDArray[np.bool_]]]:
    """n-gram sizes, and the texts [texts] that each is for: those long enough, and whole ones from 8 words on."""
    whole = [(number, lengths == number) for number in range(SHORTEST, size)]
    return [(size, lengths >= size), *whole]


def read_ngrams(path: Path) -> NGrams:
    """The table that write_ngrams wrote."""
    return NGrams(read_table(path))
