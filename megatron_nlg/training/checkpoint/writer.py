"""Boxes to torch.distributed.checkpoint files, hashed as they are written.

torch plans (boxes that several ranks own are written by the one with the least to write, and the boxes of every tensor
must fill it without overlap) and writes `.metadata`; the files themselves are written here, one a rank, because torch's
own writer keeps copies of all tensors in memory until it ends and says nothing of what it wrote.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save as write_state
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from megatron_nlg.training.checkpoint.state import Piece


class Snapshot:
    """Copies of a rank's pieces on the CPU, in memory that is kept from save to save (pinned where there is CUDA)."""

    def __init__(self) -> None:
        self._copies: dict[MetadataIndex, Tensor] = {}

    def take(self, pieces: Iterable[Piece]) -> None:
        """Copy; the sources may change when this returns."""
        cuda = False
        for piece in pieces:
            index = MetadataIndex(piece.key, piece.offsets)
            copy = self._copies.get(index)
            if copy is None:  # one storage each: torch.save writes storages whole
                copy = torch.empty(piece.sizes, dtype=torch.float32, pin_memory=torch.cuda.is_available())
                self._copies[index] = copy
            if piece.tensor is None:
                copy.zero_()
            else:
                copy.copy_(piece.tensor, non_blocking=True)
                cuda |= piece.tensor.is_cuda
        if cuda:
            torch.cuda.synchronize()

    def __getitem__(self, index: MetadataIndex) -> Tensor:
        return self._copies[index]


class Planner(DefaultSavePlanner):
    """Announces boxes, and hands their content over one at a time."""

    def __init__(self, pieces: Iterable[Piece], content: Callable[[MetadataIndex], Tensor]):
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._content = content
        properties = TensorProperties(dtype=torch.float32)
        items = [
            WriteItem(
                MetadataIndex(piece.key, piece.offsets),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(ChunkStorageMetadata(piece.offsets, piece.sizes), properties, piece.whole),
            )
            for piece in pieces
        ]
        self.plan = SavePlan(items)

    def create_local_plan(self) -> SavePlan:
        """The boxes of this rank."""
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        """Content of one box."""
        return self._content(write_item.index)


def open_file(path: Path) -> BinaryIO:
    """A new file."""
    return path.open("wb")


class HashingFile:
    """A file that knows the SHA-256 of what was written; synced to the disk when it is closed."""

    def __init__(self, path: Path):
        self.error: OSError | None = None
        self._file, self._digest = open_file(path), hashlib.sha256()

    def write(self, data: Any) -> int:
        """Append. An OSError is kept too: torch.save hides it behind its own."""
        try:
            written = self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self._digest.update(data)
        return written

    def tell(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand over to the system."""
        self._file.flush()

    def entry(self) -> dict[str, Any]:
        """The manifest's entry."""
        return {"bytes": self.tell(), "sha256": self._digest.hexdigest()}

    def __enter__(self) -> HashingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if isinstance(error, RuntimeError) and self.error is not None:
            raise self.error


class Writer(FileSystemWriter):
    """One file a rank, or `count`; `files` has the manifest's entries of those that this rank wrote."""

    def __init__(self, folder: Path, count: int = 1):
        super().__init__(folder, sync_files=True, overwrite=True)
        self.folder, self.count = folder, count
        self.files: dict[str, dict[str, Any]] = {}

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's boxes in the order of the plan, holding one at a time."""
        done: Future[list[WriteResult]] = Future()
        results: list[WriteResult] = []
        for number, items in enumerate(shares(plan.items, self.count)):
            name = f"{plan.storage_data.prefix}{number}.distcp"
            with HashingFile(self.folder / name) as file:
                for item in items:
                    start = file.tell()
                    torch.save(planner.resolve_data(item), file)  # type: ignore[arg-type]  # all of IO that it calls
                    length = file.tell() - start
                    results.append(WriteResult(item.index, length, _StorageInfo(name, start, length)))
                self.files[name] = file.entry()
        done.set_result(results)
        return done

    def storage_meta(self) -> None:
        """No folder names of this machine in `.metadata`."""


def shares(items: Sequence[WriteItem], count: int) -> Iterator[list[WriteItem]]:
    """Items in their order, in at most `count` runs of about the same size."""
    ends = list(itertools.accumulate(math.prod(item.tensor_data.chunk.sizes) for item in items if item.tensor_data))
    for _, run in itertools.groupby(zip(items, ends, strict=True), lambda pair: (pair[1] - 1) * count // ends[-1]):
        yield [item for item, _ in run]


def write(folder: Path, planner: Planner, group: Any = None, files: int = 1) -> dict[str, dict[str, Any]]:
    """Write a checkpoint's tensors, alone or as one of a group; returns the entries of the files written here.

    Raises CheckpointException on all ranks when one can't write.
    """
    writer = Writer(folder, files)
    # The checksum of the whole file is kept, so that zip's own need not be computed for every tensor.
    torch.serialization.set_crc32_options(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            write_state({}, storage_writer=writer, planner=planner, process_group=group, no_dist=group is None)
    finally:
        torch.serialization.set_crc32_options(True)
    return writer.files
