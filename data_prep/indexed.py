"""Megatron's indexed token files (MMIDIDX, version 1): `PREFIX.bin` holds the tokens, `PREFIX.idx` where documents lie.

Same bytes as Megatron-core's IndexedDatasetBuilder, with numpy alone: data preparation needs no torch. `.idx` is

    magic (9 bytes), version (uint64), dtype code (uint8), sequences S (uint64), document boundaries D (uint64),
    sequence lengths (int32 × S, in tokens), sequence pointers (int64 × S, in bytes), document boundaries (int64 × D)

all little-endian. Here a document is one sequence, so D = S + 1 and the boundaries are 0, 1, …, S.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.files import disk_error, replacing, sync
from megatron_nlg.config.errors import InputError

MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_HEADER = struct.Struct("<9sQBQQ")
_CODES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64, 7: np.float32, 8: np.uint16}
_MEND = "prepare the corpus again (megatron-nlg prep run)"

TokenDtype = np.dtype[Any]


@dataclass(frozen=True)
class IndexedInfo:
    """What a pair of token files holds."""

    documents: int
    tokens: int
    dtype: TokenDtype


def token_dtype(vocab_size: int) -> TokenDtype:
    """Megatron's choice: uint16 below 65,500 entries, int32 otherwise."""
    return np.dtype(np.uint16 if vocab_size < 65500 else np.int32)


def bin_path(prefix: Path) -> Path:
    """The tokens' file."""
    return prefix.with_name(prefix.name + ".bin")


def idx_path(prefix: Path) -> Path:
    """The index file."""
    return prefix.with_name(prefix.name + ".idx")


class IndexedWriter:
    """Writes one pair of token files; both appear at exit, `.idx` last, or neither does.

    Tokens stream to disk; 4 bytes a document stay in memory.
    """

    def __init__(self, prefix: Path, dtype: TokenDtype):
        if dtype not in (np.uint16, np.int32):
            raise ValueError(f"token files hold uint16 or int32, not {dtype}")
        self.prefix, self.dtype = prefix, dtype
        self._lengths = array("i")
        self._temporary = bin_path(prefix).with_name(f".{prefix.name}.bin.{os.uname().nodename}.{os.getpid()}.tmp")

    def __enter__(self) -> IndexedWriter:
        try:
            self._file = self._temporary.open("wb")
        except OSError as error:
            raise disk_error(error, bin_path(self.prefix)) from error
        return self

    def add(self, tokens: NDArray[Any]) -> None:
        """Append one document; `tokens` is [length] of integers within the dtype's range."""
        self.add_batch(tokens, np.array([len(tokens)]))

    def add_batch(self, tokens: NDArray[Any], lengths: NDArray[Any]) -> None:
        """Append documents that lie one after the other in `tokens` [tokens]; `lengths` is [documents], in tokens."""
        limits = np.iinfo(self.dtype)
        negative = tokens.size and tokens.dtype.kind != "u" and tokens.min() < 0
        if negative or (tokens.size and tokens.dtype != self.dtype and tokens.max() > limits.max):
            raise ValueError(f"tokens {tokens.min()}..{tokens.max()} do not fit {self.dtype}")
        self._write(np.ascontiguousarray(tokens, dtype=self.dtype).data)
        self._lengths.frombytes(lengths.astype(np.int32).tobytes())

    def add_indexed(self, prefix: Path) -> IndexedInfo:
        """Append all documents of another pair, copied by the kernel. Returns what it held."""
        info = check_indexed(prefix)
        if info.dtype != self.dtype:
            raise ValueError(f"{prefix} holds {info.dtype}, not {self.dtype}")
        self._lengths.frombytes(_read_index(prefix).lengths.tobytes())
        try:
            self._file.flush()
            with bin_path(prefix).open("rb") as stream:
                _copy(stream.fileno(), self._file.fileno(), info.tokens * info.dtype.itemsize)
        except OSError as error:
            raise disk_error(error, bin_path(self.prefix)) from error
        return info

    def _write(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise disk_error(error, bin_path(self.prefix)) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()  # flushes: a full disk may show here first
            if kind is None:
                sync(self._temporary)
                idx_path(self.prefix).unlink(missing_ok=True)  # never an old index beside new tokens
                self._temporary.replace(bin_path(self.prefix))
                with replacing(idx_path(self.prefix)) as temporary:
                    temporary.write_bytes(self._index())
        except OSError as failure:
            if kind is None:
                raise disk_error(failure, bin_path(self.prefix)) from failure
        finally:
            self._temporary.unlink(missing_ok=True)

    def _index(self) -> bytes:
        lengths = np.frombuffer(self._lengths, dtype=np.int32) if self._lengths else np.zeros(0, np.int32)
        header = _HEADER.pack(MAGIC, _VERSION, _code(self.dtype), len(lengths), len(lengths) + 1)
        boundaries = np.arange(len(lengths) + 1, dtype=np.int64)
        return header + lengths.tobytes() + _pointers(lengths, self.dtype).tobytes() + boundaries.tobytes()


def _copy(source: int, target: int, size: int) -> None:
    """Append the first `size` bytes of a file to another, at its position, without their passing through here."""
    done = 0
    while done < size:
        try:
            copied = os.copy_file_range(source, target, size - done, offset_src=done)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            copied = os.sendfile(target, source, done, size - done)  # some file systems know no other
        if not copied:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        done += copied


def check_indexed(prefix: Path) -> IndexedInfo:
    """Check a pair of token files against each other; reads the index only, so it is cheap for any size of `.bin`.

    Raises InputError that names the file, what was expected and found, and the mend, for a missing or truncated file,
    a foreign or damaged index, or sizes that contradict each other.
    """
    index = _read_index(prefix)
    tokens = int(index.lengths.sum(dtype=np.int64))
    expected, path = tokens * index.dtype.itemsize, bin_path(prefix)
    try:
        found = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {_MEND}") from None
    if found != expected:
        state = "truncated" if found < expected else "too long"
        raise InputError(f"{path}: {state}: {idx_path(prefix).name} asks for {expected} bytes, found {found}; {_MEND}")
    return IndexedInfo(documents=len(index.boundaries) - 1, tokens=tokens, dtype=index.dtype)


@dataclass(frozen=True)
class _Index:
    dtype: TokenDtype
    lengths: NDArray[np.int32]
    boundaries: NDArray[np.int64]


def _read_index(prefix: Path) -> _Index:
    path = idx_path(prefix)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {_MEND}") from None
    if len(data) < _HEADER.size:
        raise InputError(f"{path}: truncated: the header alone is {_HEADER.size} bytes, found {len(data)}; {_MEND}")
    magic, version, code, sequences, documents = _HEADER.unpack_from(data)
    if magic != MAGIC or version != _VERSION or code not in _CODES:
        raise InputError(
            f"{path}: not an MMIDIDX version 1 index (magic {magic!r}, version {version}, dtype code {code}); {_MEND}"
        )
    expected = _HEADER.size + 12 * sequences + 8 * documents
    if len(data) != expected:
        state = "truncated" if len(data) < expected else "too long"
        raise InputError(f"{path}: {state}: its header asks for {expected} bytes, found {len(data)}; {_MEND}")
    dtype = np.dtype(_CODES[code])
    lengths = np.frombuffer(data, np.int32, sequences, _HEADER.size)
    pointers = np.frombuffer(data, np.int64, sequences, _HEADER.size + 4 * sequences)
    boundaries = np.frombuffer(data, np.int64, documents, _HEADER.size + 12 * sequences)
    sound = (
        documents >= 1
        and boundaries[0] == 0
        and boundaries[-1] == sequences
        and bool((np.diff(boundaries) >= 0).all())
        and bool((lengths >= 0).all())
        and bool((pointers == _pointers(lengths, dtype)).all())
    )
    if not sound:
        raise InputError(f"{path}: damaged: its lengths, pointers and document boundaries disagree; {_MEND}")
    return _Index(dtype, lengths, boundaries)


def _pointers(lengths: NDArray[np.int32], dtype: TokenDtype) -> NDArray[np.int64]:
    """Byte offset of each sequence in `.bin`; [sequences]."""
    pointers = np.zeros(len(lengths), dtype=np.int64)
    np.cumsum(lengths[:-1], dtype=np.int64, out=pointers[1:])
    return pointers * dtype.itemsize


def _code(dtype: TokenDtype) -> int:
    return next(code for code, kind in _CODES.items() if dtype == kind)
