"""Batches of texts as flat arrays of words: what statistics and classifiers work on, with no Python string a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Pieces(NamedTuple):
    """All words (or lines) of a batch of texts, one after the other."""

    starts: NDArray[np.int64]
    """Where each document's begin, and the end: [documents + 1]."""
    codes: NDArray[np.int64]
    """Index into `distinct`: [words]."""
    distinct: pa.Array
    """Each different word once."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Words of each document; [documents]."""
        return np.diff(self.starts)

    @property
    def documents(self) -> NDArray[np.int64]:
        """The document of each word; [words]."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each word; [words]."""
        return self.look_up(pc.utf8_length)

    def look_up(self, function: Callable[[pa.Array], pa.Array]) -> NDArray[np.int64]:
        """A function of words, done once for each different one; [words]."""
        values: NDArray[np.int64] = function(self.distinct).to_numpy(zero_copy_only=False).astype(np.int64)
        return values[self.codes]

    def sum(self, values: NDArray[np.generic]) -> NDArray[np.int64]:
        """Sums over the words of each document; [words] to [documents]."""
        ends = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        total: NDArray[np.int64] = ends[self.starts[1:]] - ends[self.starts[:-1]]
        return total


def words_of(texts: pa.Array) -> Pieces:
    """What stands between white space."""
    lists = pc.utf8_split_whitespace(texts)
    return _pieces(lists, lists.flatten())


def lines_of(texts: pa.Array) -> Pieces:
    """Lines without white space at their ends, empty ones left out."""
    lists = pc.split_pattern(texts, "\n")
    return _pieces(lists, pc.utf8_trim_whitespace(lists.flatten()))


def paragraphs_of(texts: pa.Array) -> Pieces:
    """What stands between blank lines."""
    lists = pc.split_pattern(texts, "\n\n")
    return _pieces(lists, pc.utf8_trim_whitespace(lists.flatten()))


def _pieces(lists: pa.Array, flat: pa.Array) -> Pieces:
    full = pc.not_equal(flat, "")
    offsets = lists.offsets.to_numpy().astype(np.int64)
    seen = np.concatenate([[0], np.cumsum(full.to_numpy(zero_copy_only=False))])
    encoded = flat.filter(full).dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    return Pieces(seen[offsets - offsets[0]], codes, encoded.dictionary)


def repeats(pieces: Pieces) -> NDArray[np.bool_]:
    """Which pieces occurred in their document before; [pieces]."""
    return _later(pieces.documents * max(len(pieces.distinct), 1) + pieces.codes)


def _later(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which keys occurred before; [keys]."""
    order = np.argsort(keys, kind="stable")
    later = np.zeros(len(keys), bool)
    ordered = keys[order]
    later[order[1:]] = ordered[1:] == ordered[:-1]
    return later


class Grams:
    """Repeated word n-grams of each document, for growing n.

    Only those count that stand in their document more than once, and an n+1-gram can do so only where its n-gram does:
    so each step looks at what the step before left, which in most text is little.
    """

    def __init__(self, words: Pieces):
        self.words, self.n = words, 1
        self.document, self.length = words.documents, words.lengths
        self.position = np.arange(len(words.codes))
        self.group = self.document * max(len(words.distinct), 1) + words.codes
        self.characters = np.maximum(words.sum(self.length), 1)
        self.ends = np.concatenate([[0], np.cumsum(self.length)])

    def grow(self) -> None:
        """From n to n + 1."""
        step = self.n
        inside = self.position + step < self.words.starts[self.document[self.position] + 1]
        self.position, group = self.position[inside], self.group[inside]
        # Two n-grams are equal when all but the last word is, and the last. Less than 2^63: groups are below documents
        # times words at first, later below words, and a row group of 4096 documents has no 2^24 different words.
        key = group * max(len(self.words.distinct), 1) + self.words.codes[self.position + step]
        _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
        often = counts[inverse] > 1
        self.position, self.group, self.n = self.position[often], inverse[often], step + 1

    def top_share(self) -> NDArray[np.float64]:
        """Share of characters in the most frequent n-gram that occurs more than once; [documents]."""
        best = np.zeros(len(self.characters), np.int64)
        if len(self.position):
            _, first, counts = np.unique(self.group, return_index=True, return_counts=True)
            at = self.position[first]
            covered = counts * (self.ends[at + self.n] - self.ends[at])
            np.maximum.at(best, self.document[at], covered)
        return np.minimum(best / self.characters, 1.0)

    def repeated_share(self) -> NDArray[np.float64]:
        """Share of characters in words of n-grams that occurred before; [documents]."""
        marks = np.zeros(len(self.words.codes) + 1, np.int64)
        later = self.position[_later(self.group)]
        np.add.at(marks, later, 1)
        np.add.at(marks, later + self.n, -1)
        covered = np.cumsum(marks[:-1]) > 0
        share: NDArray[np.float64] = self.words.sum(covered * self.length) / self.characters
        return share
