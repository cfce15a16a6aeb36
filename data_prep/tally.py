"""Counts for stats.json: documents and bytes in, out, and dropped by reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Tally:
    """What went into a step and what became of it. Bytes are UTF-8 bytes of text (of the raw record when rejected)."""

    def __init__(self) -> None:
        self._in = [0, 0]
        self._out = [0, 0]
        self._dropped: dict[str, list[int]] = {}

    def keep(self, size_in: int, size_out: int) -> None:
        """A document of `size_in` bytes that goes on as `size_out` bytes."""
        _add(self._in, 1, size_in)
        _add(self._out, 1, size_out)

    def cut(self, size_in: int, sizes_out: Sequence[int]) -> None:
        """A document that goes on as several, in bytes."""
        _add(self._in, 1, size_in)
        _add(self._out, len(sizes_out), sum(sizes_out))

    def keep_all(self, sizes_in: NDArray[np.int64], sizes_out: NDArray[np.int64]) -> None:
        """Documents that go on; both [documents], in bytes."""
        _add(self._in, len(sizes_in), int(sizes_in.sum()))
        _add(self._out, len(sizes_out), int(sizes_out.sum()))

    def drop_all(self, reason: str, sizes: NDArray[np.int64]) -> None:
        """Documents that end here, for one reason; [documents], in bytes."""
        if len(sizes):
            _add(self._in, len(sizes), int(sizes.sum()))
            _add(self._dropped.setdefault(reason, [0, 0]), len(sizes), int(sizes.sum()))

    def drop(self, reason: str, size: int) -> None:
        """A document, or a record that never became one, that ends here."""
        _add(self._in, 1, size)
        _add(self._dropped.setdefault(reason, [0, 0]), 1, size)

    def as_json(self) -> dict[str, Any]:
        """`{documents_in, bytes_in, documents_out, bytes_out, dropped: {reason: {documents, bytes}}}`."""
        return {
            "documents_in": self._in[0],
            "bytes_in": self._in[1],
            "documents_out": self._out[0],
            "bytes_out": self._out[1],
            "dropped": {r: {"documents": d, "bytes": b} for r, (d, b) in sorted(self._dropped.items())},
        }

    @classmethod
    def sum(cls, parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The sum of several `as_json` values."""
        total = cls()
        for part in parts:
            _add(total._in, part["documents_in"], part["bytes_in"])
            _add(total._out, part["documents_out"], part["bytes_out"])
            for reason, count in part["dropped"].items():
                _add(total._dropped.setdefault(reason, [0, 0]), count["documents"], count["bytes"])
        return total.as_json()


def _add(pair: list[int], documents: int, size: int) -> None:
    pair[0] += documents
    pair[1] += size
