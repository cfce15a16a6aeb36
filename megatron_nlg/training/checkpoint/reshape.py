"""A checkpoint rewritten as if by one rank, in the present format, holding one box of it in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import MetadataIndex

from megatron_nlg.config.errors import InputError
from megatron_nlg.training.checkpoint.format import (
    EVERYTHING,
    WEIGHT,
    locate,
    problems_of,
    read_manifest,
    read_progress,
)
from megatron_nlg.training.checkpoint.publish import publish_alone
from megatron_nlg.training.checkpoint.reader import Source
from megatron_nlg.training.checkpoint.state import Piece, slabs


def reshape(path: Path, target: Path, weights_only: bool, files: int) -> Path:
    """Rewrite the newest checkpoint of `path` into the folder `target`; returns the new one.

    Raises InputError when it is damaged: an older one must be asked for by name.
    """
    folder = locate(path)[0]
    if problems := problems_of(folder):
        raise InputError(f"{folder} is damaged: {'; '.join(problems)}; name another step_…")
    source = Source(folder)
    contents = (WEIGHT,) if weights_only else read_manifest(folder).contents
    pieces = [piece for key in EVERYTHING if key in contents for piece in _pieces(source, key)]
    sizes = {MetadataIndex(piece.key, piece.offsets): piece for piece in pieces}

    def content(index: MetadataIndex) -> Tensor:
        piece = sizes[index]
        tensor = torch.empty(piece.sizes)
        source.read([Piece(piece.key, piece.whole, piece.offsets, piece.sizes, tensor)])
        return tensor

    return publish_alone(target, read_progress(folder), pieces, content, "convert reshape", files)


def _pieces(source: Source, kind: str) -> Iterator[Piece]:
    """All weights, or all of one moment."""
    for key in source.keys:
        if key.startswith(f"{kind}."):
            whole = source.shape(key)
            for offsets, sizes in slabs([0] * len(whole), whole):
                yield Piece(key, whole, offsets, sizes, None)
