"""Any box out of any checkpoint, whatever layout wrote it; each rank reads for itself."""

from __future__ import annotations

import math
import pathlib
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import metadata as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.utils import _create_file_view

from megatron_nlg.config.errors import InputError
from megatron_nlg.training.checkpoint.format import WEIGHT
from megatron_nlg.training.checkpoint.state import Piece

METADATA = ".metadata"


def _member(of: type, name: str) -> Any:
    """What some Python versions (3.11.0 to 3.11.3) call `getattr` for: a member of an enumeration, and nothing else."""
    if of is not dcp._MEM_FORMAT_ENCODING or not isinstance(name, str):
        raise pickle.UnpicklingError(f"{of!r}.{name} has no place in a checkpoint")
    return dcp._MEM_FORMAT_ENCODING[name]


ALLOWED: dict[str, dict[str, Any]] = {
    "torch.distributed.checkpoint.metadata": {
        name: getattr(dcp, name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo": _StorageInfo},
    "torch": {"Size": torch.Size, "float32": torch.float32},
    "torch.serialization": {"_get_layout": torch.serialization._get_layout},
    "builtins": {"getattr": _member},
    "pathlib": {"PosixPath": pathlib.PurePosixPath},
}
"""All that torch's metadata of our checkpoints consists of."""


class Unpickler(pickle.Unpickler):
    """Makes nothing but metadata: torch pickles it, and a pickle can run anything."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the allowed classes, or UnpicklingError."""
        try:
            return ALLOWED[module][name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint") from None


class Source:
    """A checkpoint on disk. Its files must have been verified. Raises InputError when it lacks what is asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            with (folder / METADATA).open("rb") as file:
                found = Unpickler(file).load()
        except Exception as error:
            raise InputError(f"{folder / METADATA}: can't be read: {error}; use another checkpoint") from None
        self._tensors: dict[str, dcp.TensorStorageMetadata] = found.state_dict_metadata
        self._storage: dict[dcp.MetadataIndex, _StorageInfo] = found.storage_data

        self.keys = sorted(self._tensors)
        """`weight.…`, `exp_avg.…`, `exp_avg_sq.…`"""

    def shape(self, key: str) -> torch.Size:
        """Whole shape of a tensor."""
        return self._tensors[key].size

    def parameters(self) -> dict[str, list[int]]:
        """Global name -> whole shape."""
        prefix = f"{WEIGHT}."
        return {key.removeprefix(prefix): list(self.shape(key)) for key in self.keys if key.startswith(prefix)}

    def read(self, pieces: Iterable[Piece]) -> None:
        """Fill the pieces' tensors, wherever and of whatever precision they are, holding one stored box at a time."""
        wanted = [(read, piece) for piece in pieces for read in self._reads(piece)]
        wanted.sort(key=lambda pair: (self._info(pair[0]).relative_path, self._info(pair[0]).offset))
        last: tuple[_StorageInfo, Tensor] | None = None
        for read, piece in wanted:
            info = self._info(read)
            if last is None or last[0] != info:
                last = None  # before the next one is read
                last = (info, self._load(info))
            assert piece.tensor is not None
            target, source = piece.tensor, last[1]
            for dim, (to, start, length) in enumerate(
                zip(read.dest_offsets, read.storage_offsets, read.lengths, strict=True)
            ):
                target, source = target.narrow(dim, to, length), source.narrow(dim, start, length)
            target.copy_(source)

    def _info(self, read: ReadItem) -> _StorageInfo:
        return self._storage[read.storage_index]

    def _reads(self, piece: Piece) -> Iterator[ReadItem]:
        """Stored boxes that make up a piece."""
        stored = self._tensors.get(piece.key)
        if stored is None:
            raise InputError(f"{self.folder}: holds no {piece.key}")
        if stored.size != piece.whole:
            raise InputError(
                f"{self.folder}: {piece.key} has shape {list(stored.size)} and the model's has {list(piece.whole)}"
            )
        reads = create_read_items_for_chunk_list(
            piece.key, stored, [dcp.ChunkStorageMetadata(piece.offsets, piece.sizes)]
        )
        if sum(math.prod(read.lengths) for read in reads) != math.prod(piece.sizes):
            raise InputError(f"{self.folder}: {piece.key} is stored with gaps")
        yield from reads

    def _load(self, info: _StorageInfo) -> Tensor:
        with (self.folder / info.relative_path).open("rb") as file:
            view = _create_file_view(file, info.offset, info.length)
            tensor: Tensor = torch.load(view, weights_only=True, map_location="cpu")  # type: ignore[arg-type]
        return tensor
