"""The compiled kernel (sources in kernel/): what it offers, or one line that says how to get it."""

from __future__ import annotations

import hashlib
import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

from megatron_nlg.config.errors import MegatronNlgError

Readable = Any
"""A contiguous buffer: Arrow's, numpy's, bytes."""


class Kernel(Protocol):
    """Texts are UTF-8 bytes and int64 offsets [documents + 1]. Results go into `out` where there is one.

    Raises ValueError for sizes that do not fit, MemoryError when memory ends. Other Python threads run meanwhile.
    """

    UNICODE_VERSION: str
    """Of the table of word characters and of folding."""
    SOURCES: str
    """SHA-256 of what it was built from."""

    def signatures(
        self,
        data: Readable,
        offsets: Readable,
        characters: bool,
        size: int,
        factors: Readable,
        terms: Readable,
        out: Readable,
        threads: int,
        /,
    ) -> None:
        """uint32 [documents, permutations]: least factor·h + term mod 2³² over the shingles."""

    def content_hashes(self, data: Readable, offsets: Readable, out: Readable, threads: int, /) -> None:
        """uint64 [documents, 2]."""

    def words(self, data: Readable, offsets: Readable, /) -> tuple[bytes, bytes, bytes, bytes]:
        """Hashes uint64, starts and ends int64 (bytes in `data`) [words]; int64 [documents + 1]: their first words."""

    def shingles(self, data: Readable, offsets: Readable, characters: bool, size: int, /) -> tuple[bytes, bytes]:
        """Hashes uint64 [shingles], repeats included; int64 [documents + 1]: first shingle of each document."""

    def combine(self, units: Readable, offsets: Readable, size: int, out: Readable, /) -> None:
        """uint64 [units]: hash of the `size` units from each on; of a document's last size − 1, `out` stays."""

    def minima(self, hashes: Readable, offsets: Readable, factors: Readable, terms: Readable, out: Readable, /) -> None:
        """uint32 [documents, permutations], a multiple of 64: the second half of `signatures`, from shingles."""

    def jaccard(self, hashes: Readable, offsets: Readable, pairs: Readable, out: Readable, threads: int, /) -> None:
        """float64 [pairs], of sets of hashes at int64 `offsets`; `pairs` is int64 [pairs, 2]."""

    def band_keys(
        self, signatures: Readable, permutations: int, bands: int, rows: int, out: Readable, threads: int, /
    ) -> None:
        """uint64 [bands, documents]."""

    def candidates(
        self,
        keys: Readable,
        documents: Readable,
        signatures: list[Any],
        permutations: int,
        least: int,
        sure: int,
        threads: int,
        /,
    ) -> bytes:
        """uint32 [candidates, 3]: document, later document, equal min-hashes (at least `least`); repeats included.

        `keys` is uint64 [bands, n], `documents` uint32 [n], ascending positions in the concatenated signatures.
        """

    def first_of_equals(self, hashes: Readable, out: Readable, /) -> None:
        """int64 [documents]: the first with the same uint64 [documents, 2]."""

    def clusters(self, pairs: Readable, chains: bool, out: Readable, /) -> None:
        """int64 [documents]: first member of its cluster; `pairs` is int64 [pairs, 2]."""

    def use_level(self, level: int, /) -> int:
        """Use the versions for processors of a lower x86-64 level (1, 3 or 4) too; the one now in use. For tests."""


@lru_cache(maxsize=1)
def kernel() -> Kernel:
    """The extension module; raises MegatronNlgError where it was not built, or from other sources."""
    name = "the compiled kernel of deduplication and decontamination"
    try:
        found = cast("Kernel", importlib.import_module("data_prep.dedup._kernel"))
    except ImportError as error:
        raise MegatronNlgError(
            f"{name} is missing ({error}): "
            "install a C++17 compiler (Debian: apt install g++) and Python's headers, then run `pip install -e .` again"
        ) from None
    sources = sorted((Path(__file__).parent / "kernel").glob("*.[ch]*"))
    if sources and hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest() != found.SOURCES:
        raise MegatronNlgError(f"{name} was built from other sources than are here: run `pip install -e .` again")
    return found
