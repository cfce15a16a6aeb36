"""Terms of texts and their counts: what both rankers and the probing sets see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

TERM = re.compile(r"\w+")


def terms(text: str) -> list[str]:
    """Runs of letters, digits and underscores, in lower case; no stop words, no stems."""
    return TERM.findall(text.lower())


def places(text: str) -> Iterator[tuple[str, int, int]]:
    """Terms with where they begin and end, in characters of `text`."""
    for match in TERM.finditer(text):
        yield match.group().lower(), match.start(), match.end()


@dataclass(frozen=True)
class Counts:
    """How often each term stands in each passage."""

    numbers: dict[str, int]
    """Of terms, in the order in which they were first seen."""
    matrix: sparse.csr_array
    """[passages, terms]"""
    lengths: NDArray[np.float64]
    """[passages], terms"""

    @property
    def document_frequency(self) -> NDArray[np.float64]:
        """[terms]: passages that hold the term."""
        frequency: NDArray[np.float64] = np.bincount(self.matrix.indices, minlength=len(self.numbers)).astype(float)
        return frequency

    def queries(self, texts: Sequence[str]) -> sparse.csr_array:
        """[texts, terms]: counts of known terms."""
        found = [[self.numbers[term] for term in terms(text) if term in self.numbers] for text in texts]
        return _matrix(found, len(self.numbers))


def count(texts: Sequence[str]) -> Counts:
    """Count the terms of passages."""
    numbers: dict[str, int] = {}
    found = [[numbers.setdefault(term, len(numbers)) for term in terms(text)] for text in texts]
    return Counts(numbers, _matrix(found, len(numbers)), np.array([len(row) for row in found], float))


def _matrix(rows: Sequence[Sequence[int]], width: int) -> sparse.csr_array:
    """[rows, width]: how often each number stands in each row."""
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter((number for row in rows for number in row), np.int64, int(ends[-1]))
    matrix = sparse.csr_array((np.ones(len(columns)), columns, ends), shape=(len(rows), width))
    matrix.sum_duplicates()
    return matrix
