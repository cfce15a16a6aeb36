"""Files as streams of bytes: plain, gzip or zstd; and what it means when one ends in an error."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from data_prep.readers.base import Collector, InputFile, Part, Reject
from data_prep.shards import Document


class DamagedError(Exception):
    """A compressed stream that can't be read on."""


def open_stream(path: Path) -> io.BufferedIOBase:
    """The content of a file, unpacked by its ending."""
    if path.suffix == ".gz":
        return gzip.GzipFile(path)  # its read1 hands out all that comes before damage
    if path.suffix == ".zst":
        return io.BufferedReader(_Zstd(path), 1 << 20)
    return path.open("rb")


class _Zstd(io.RawIOBase):
    """Arrow's decompressor, its errors told from those of the disk."""

    def __init__(self, path: Path):
        self._raw = path.open("rb")
        self._stream = pa.CompressedInputStream(self._raw, "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(min(len(buffer), 1 << 16))  # what a call reads is lost when it fails
        except OSError as error:
            if error.errno is not None:
                raise
            raise DamagedError(str(error)) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()


def stream_reject(file: InputFile, error: Exception) -> Reject:
    """What to report when reading a file ends early."""
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return Reject(file.name, None, "unreadable", error.strerror or str(error), 0)
    reason = "damaged_zstd" if isinstance(error, DamagedError) else "damaged_gzip"
    return Reject(file.name, None, reason, f"the rest of the file is lost: {error}", 0)


STREAM_ERRORS = (EOFError, OSError, zlib.error, DamagedError)
"""What reading from open_stream can raise."""


def range_chunks(stream: io.BufferedIOBase, start: int, end: int | None, size: int) -> Iterator[bytes]:
    """Bytes of the lines that start in a range, in chunks of about `size` bytes."""
    if end is None:
        while data := stream.read1(size):
            yield data
        return
    position = start
    if start:
        stream.seek(start - 1)  # a line starts at `start` when the byte before ends one
        position -= 1
        while line := stream.readline(size):
            position += len(line)
            if line.endswith(b"\n"):
                break
    last = b"\n"
    while position < end and (data := stream.read1(min(size, end - position))):
        position += len(data)
        last = data
        yield data
    while not last.endswith(b"\n") and (last := stream.readline(size)):
        yield last


def count_lines(path: Path, start: int, end: int) -> int:
    """Lines that start in a range of a plain file."""
    count = 0 if start else 1
    with path.open("rb") as stream:
        stream.seek(max(start - 1, 0))
        left = end - 1 - max(start - 1, 0)
        while left > 0 and (data := stream.read(min(left, 1 << 22))):
            count += data.count(b"\n")
            left -= len(data)
    return count


def parts_of(items: Iterator[Document | Reject], file: InputFile, source: str) -> Iterator[Part]:
    """Single documents and rejects as parts; an error of the stream is a reject after all that came before it."""
    collector = Collector(source)
    try:
        for item in items:
            if isinstance(item, Reject):
                collector.rejects.append(item)
            else:
                collector.add(item.id, item.text, item.url, item.attributes)
            if collector.full():
                yield collector.take()
    except STREAM_ERRORS as error:
        collector.rejects.append(stream_reject(file, error))
    yield collector.take()
