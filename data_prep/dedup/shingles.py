"""From Arrow's UTF-8 buffers to words, shingles and min-hashes, without a Python string a document.

Words are runs of Unicode letters, marks, numbers and underscores, folded to one case (simple folding); characters of
scripts that are written without spaces (Han, kana, Thai and the like) are a word each. A shingle is a run of words, or
of characters of the normalised text; a document of fewer units is one shingle, one of none has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.dedup.compiled import kernel

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Shingling:
    """What a document is a set of."""

    unit: Literal["words", "characters"] = "words"
    size: int = 5


@dataclass(frozen=True)
class Signing:
    """How a document is signed: datasketch's scheme affine32 with the permutations of its seed."""

    shingling: Shingling = Shingling()
    permutations: int = 128
    seed: int = 1


class Words(NamedTuple):
    """The words of some documents, in order."""

    hashes: Hashes
    """Of the folded word; [words]."""
    starts: Positions
    """First byte in the texts' data (`buffers(texts)`), which is also in the text when its offset is taken off."""
    ends: Positions
    """One past the last byte; [words]."""
    documents: Positions
    """First word of each document, and the number of words; [documents + 1]."""


class Sets(NamedTuple):
    """Shingles of some documents."""

    hashes: Hashes
    """[shingles]; a shingle that a document repeats is repeated here."""
    documents: Positions
    """First shingle of each document, and the number of shingles; [documents + 1]."""


def buffers(texts: pa.Array | pa.ChunkedArray) -> tuple[Any, Positions]:
    """UTF-8 bytes of an array of (large_)string, and each text's offsets into them [documents + 1].

    Nothing is copied but chunks into one array, 32-bit offsets to 64-bit, and an array that has nulls, which are "".
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = (
            texts.chunk(0) if texts.num_chunks == 1 else pa.concat_arrays(texts.chunks or [pa.array([], texts.type)])
        )
    if texts.null_count:
        texts = texts.fill_null("")
    wide = pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type)
    _, offsets, data = texts.buffers()
    if offsets is None or not len(texts):
        return b"", np.zeros(len(texts) + 1, np.int64)
    kind = np.int64 if wide else np.int32
    ends = np.frombuffer(offsets, kind)[texts.offset : texts.offset + len(texts) + 1]
    return b"" if data is None else data, np.ascontiguousarray(ends, np.int64)


def words(texts: pa.Array | pa.ChunkedArray) -> Words:
    """The words of texts: what decontamination matches its n-grams on, see `grams`."""
    parts = kernel().words(*buffers(texts))
    hashes, *positions = (np.frombuffer(part, np.uint64) for part in parts)
    return Words(hashes, *(part.view(np.int64) for part in positions))


def grams(found: Words, size: int) -> Hashes:
    """Hash of the `size` words from each word on; [words]. 0 for the last size − 1 words of a document.

    Two runs of words have one hash when they are equal, and else with probability 2⁻⁶⁴ (less than 2⁻⁶⁰ when one is the
    other in another order). `np.isin(grams(a, n), grams(b, n))` are the n-grams that a shares with b.
    """
    out = np.zeros(len(found.hashes), np.uint64)
    kernel().combine(found.hashes, found.documents, size, out)
    return out


def shingles(texts: pa.Array | pa.ChunkedArray, rules: Shingling) -> Sets:
    """The shingles of texts, as 64-bit hashes."""
    hashes, documents = kernel().shingles(*buffers(texts), rules.unit == "characters", rules.size)
    return Sets(np.frombuffer(hashes, np.uint64), np.frombuffer(documents, np.int64))


def signatures(texts: pa.Array | pa.ChunkedArray, rules: Signing, threads: int = 1) -> NDArray[np.uint32]:
    """Min-hashes [documents, permutations]: datasketch's for the upper 32 bits of the shingles' hashes.

    All bits are one for a document without a unit.
    """
    out = np.empty((len(texts), rules.permutations), np.uint32)
    factors, terms = permutations(rules.permutations, rules.seed)
    unit, size = rules.shingling.unit == "characters", rules.shingling.size
    kernel().signatures(*buffers(texts), unit, size, factors, terms, out, threads)
    return out


@lru_cache(maxsize=8)
def permutations(count: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Factors (odd) and terms of h → factor·h + term mod 2³²; as datasketch draws them, whose import takes a second."""
    draw = np.random.RandomState(seed)
    factors = draw.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return factors, draw.randint(0, 1 << 32, count, dtype=np.uint32)


def content_hashes(texts: pa.Array | pa.ChunkedArray, threads: int = 1) -> Hashes:
    """128 bits a text, MurmurHash3, equal for texts that differ in case and white space only; [documents, 2]."""
    out = np.empty((len(texts), 2), np.uint64)
    kernel().content_hashes(*buffers(texts), out, threads)
    return out


def jaccard(sets: Sets, pairs: Positions, threads: int = 1) -> NDArray[np.float64]:
    """Exact Jaccard similarity of pairs of documents [pairs, 2]; 0 for a document without a shingle; [pairs]."""
    out = np.empty(len(pairs), np.float64)
    kernel().jaccard(sets.hashes, sets.documents, np.ascontiguousarray(pairs, np.int64), out, threads)
    return out


def band_keys(signed: NDArray[np.uint32], bands: int, rows: int, threads: int = 1) -> Hashes:
    """One 64-bit key for each band of `rows` min-hashes; [documents, permutations] -> [bands, documents]."""
    out = np.empty((bands, len(signed)), np.uint64)
    kernel().band_keys(np.ascontiguousarray(signed), signed.shape[1], bands, rows, out, threads)
    return out
