"""Which ranges of which parameters a rank owns, and the boxes of the whole tensors that they are.

ZeRO keeps the fp32 master weight and both moments of a tensor-parallel part as flat partitions over data-parallel
ranks. A flat range of a row-major [rows, columns] part is at most three boxes: the rest of a row, whole rows, the start
of a row; of a gated MLP's [2, rows, columns] at most five. Shifted by the part's place they are boxes of the whole
tensor, and nothing has to be gathered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from megatron_nlg.model.naming import EMBEDDING, NamedParameter, named_parameters
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.checkpoint.format import EVERYTHING, WEIGHT

if TYPE_CHECKING:
    from megatron_nlg.training.engine import Engine

Box = tuple[torch.Size, torch.Size]
"""Offsets and sizes."""
SLAB = 1 << 26
"""Elements of the largest box that is written: what a reader holds in memory at once."""


@dataclass(frozen=True)
class Piece:
    """A box of a whole tensor, and where this rank keeps it."""

    key: str
    """`weight.`, `exp_avg.` or `exp_avg_sq.`, and the parameter's global name."""
    whole: torch.Size
    offsets: torch.Size
    sizes: torch.Size
    tensor: Tensor | None
    """This rank's own memory, of shape `sizes`, on any device; None for zeros: there are no moments yet."""


def boxes(start: int, numel: int, shape: Sequence[int]) -> Iterator[Box]:
    """Boxes of the elements start, start + 1, … of a row-major tensor, in their order: at most 2 × dimensions - 1."""
    if len(shape) == 1:
        if numel:
            yield torch.Size([start]), torch.Size([numel])
        return
    row, end = math.prod(shape[1:]), start + numel
    while start < end:
        number, skipped = divmod(start, row)
        rows = (end - start) // row
        if skipped or not rows:  # a part of a row
            done = min(row - skipped, end - start)
            for offsets, sizes in boxes(skipped, done, shape[1:]):
                yield torch.Size([number, *offsets]), torch.Size([1, *sizes])
        else:
            done = rows * row
            yield torch.Size([number, *([0] * (len(shape) - 1))]), torch.Size([rows, *shape[1:]])
        start += done


def slabs(offsets: Sequence[int], sizes: Sequence[int], limit: int = SLAB) -> Iterator[Box]:
    """A box as boxes of at most `limit` elements if rows allow it, in their order; each is contiguous in the box."""
    dim = next((dim for dim, size in enumerate(sizes) if size > 1), 0)
    step = max(1, limit // math.prod(sizes[dim + 1 :]))
    for first in range(0, sizes[dim], step):
        start = [*offsets[:dim], offsets[dim] + first, *offsets[dim + 1 :]]
        yield torch.Size(start), torch.Size([*sizes[:dim], min(step, sizes[dim] - first), *sizes[dim + 1 :]])


def place(item: NamedParameter, context: ParallelContext) -> tuple[torch.Size, Box]:
    """Whole shape of a parameter, and the box of it that is this tensor rank's part."""
    size = context.layout.tensor
    whole = item.whole_shape(size)
    shape, offsets = list(whole), [0] * len(whole)
    if item.cut is not None:
        shape[item.cut] //= size
        offsets[item.cut] = context.at.tensor * shape[item.cut]
    return whole, (torch.Size(offsets), torch.Size(shape))


def owned(engine: Engine) -> list[Piece]:
    """All that this rank must save, without communication. Ranks that own the same box give it the same bounds."""
    moments = engine.link_moments()
    found = []
    for item in engine.parameters():
        if item.name == EMBEDDING and engine.context.at.pipe > 0:
            continue  # the first stage saves the tied embedding
        found += _pieces(engine, item, EVERYTHING if moments else (WEIGHT,))
        if not moments:
            zeros = [(k, piece) for k in EVERYTHING[1:] for piece in _pieces(engine, item, (WEIGHT,))]
            found += [Piece(f"{k}.{item.name}", p.whole, p.offsets, p.sizes, None) for k, p in zeros]
    return found


def loadable(engine: Engine, keys: Sequence[str]) -> list[Piece]:
    """All of the optimizer's own memory on this rank, to be filled."""
    return [piece for item in engine.parameters() for piece in _pieces(engine, item, keys)]


def weights_of(chunks: Sequence[nn.Module], context: ParallelContext) -> list[Piece]:
    """The weights of chunks that no optimizer holds, to be filled."""
    found = []
    for item in named_parameters(chunks):
        whole, (offsets, sizes) = place(item, context)
        found.append(Piece(f"{WEIGHT}.{item.name}", whole, offsets, sizes, item.parameter.data.view(sizes)))
    return found


def _pieces(engine: Engine, item: NamedParameter, keys: Sequence[str]) -> list[Piece]:
    """This rank's share of a parameter as boxes."""
    whole, (corner, shape) = place(item, engine.context)
    start, numel, flats = engine.share(item.parameter, [None if key == WEIGHT else key for key in keys])
    found = []
    for key, flat in zip(keys, flats, strict=True):
        done = 0
        for offsets, sizes in (slab for box in boxes(start, numel, shape) for slab in slabs(*box)):
            count = math.prod(sizes)
            where = torch.Size(a + b for a, b in zip(corner, offsets, strict=True))
            tensor = flat[done : done + count].detach().view(sizes)
            found.append(Piece(f"{key}.{item.name}", whole, where, sizes, tensor))
            done += count
    return found
