"""Keys and values of the texts that a model continues, kept so that a pass computes new tokens only.

The cache lives in this project's core attention. Megatron-core's own is allocated by CUDA alone, wants all rows of a
batch equally long, and knows no interleaved stages. Rows are padded on the right: a token's column is its position,
for learned and rotary positions alike. Padding is written too, and overwritten before a token may look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_nlg.model.attention import ScaledDotProductAttention
from megatron_nlg.model.gpt import GPT
from megatron_nlg.model.lean import head_logits, run_stages
from megatron_nlg.model.screen import Screen
from megatron_nlg.parallel.context import ParallelContext


@dataclass(frozen=True)
class Span:
    """Where a pass writes in the cache, and what its tokens see."""

    rows: slice
    columns: slice | Tensor
    """Of all rows alike, or [rows, tokens]."""
    seen: int
    """Columns that some token sees."""
    mask: Tensor | None
    """Added to the scores, [rows, 1, tokens, seen]; None: every token sees all, or causal."""
    causal: bool


class Cache:
    """[rows, query groups, length, head size] of keys and of values for each layer of this rank."""

    def __init__(self, chunks: Sequence[GPT], rows: int, length: int):
        self.rows, self.length = rows, length
        self.span: Span | None = None
        """None: the pass leaves the cache alone."""
        self.kept: list[tuple[Tensor, Tensor]] = []
        for chunk in chunks:
            for layer in chunk.decoder.layers:
                attention = layer.self_attention
                weight = attention.linear_qkv.weight
                groups = attention.num_query_groups_per_partition
                shape = (rows, groups, length, attention.hidden_size_per_attention_head)
                # Zeros: a weight of 0 does not hide a NaN that the memory may hold.
                self.kept.append((weight.new_zeros(shape), weight.new_zeros(shape)))
                core = attention.core_attention
                if not isinstance(core, ScaledDotProductAttention):
                    raise TypeError(f"{type(core).__name__} keeps no keys and values")
                core.cache, core.cache_slot = self, len(self.kept) - 1

    def extend(self, slot: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [tokens, rows, groups, size] of a layer; returns [rows, groups, seen, size] of keys and of values."""
        assert self.span is not None
        span, out = self.span, []
        for kept, new in zip(self.kept[slot], (key, value), strict=True):
            rows = kept[span.rows]
            if isinstance(span.columns, slice):
                rows[:, :, span.columns] = new.permute(1, 2, 0, 3)
            else:
                where = torch.arange(rows.shape[0], device=rows.device)[:, None]
                rows.transpose(1, 2)[where, span.columns] = new.transpose(0, 1)
            out.append(rows[:, :, : span.seen])
        return out[0], out[1]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first columns of a row to another."""
        for pair in self.kept:
            for kept in pair:
                kept[target, :, :length] = kept[source, :, :length]


def span_of(starts: Sequence[int], tokens: int, first_row: int, like: Tensor) -> Span:
    """A pass of `tokens` columns from a position of each row's own; `like` has the mask's type and device."""
    rows, longest = slice(first_row, first_row + len(starts)), max(starts)
    seen, level = longest + tokens, min(starts) == longest
    if level and (longest == 0 or tokens == 1):
        return Span(rows, slice(longest, seen), seen, None, tokens > 1)
    positions = positions_of(starts, tokens, like.device)
    future = torch.arange(seen, device=like.device) > positions[:, :, None]
    mask = torch.zeros(future.shape, dtype=like.dtype, device=like.device).masked_fill_(future, float("-inf"))
    return Span(rows, slice(longest, seen) if level else positions, seen, mask[:, None], False)


def positions_of(starts: Sequence[int], tokens: int, device: torch.device) -> Tensor:
    """[rows, tokens]."""
    return torch.tensor(starts, device=device)[:, None] + torch.arange(tokens, device=device)


class CachedModel:
    """A replica's stages with a cache. Every rank of the replica calls the same methods with the same arguments.

    The stages are called one after the other, without Megatron-core's schedule: one batch of single tokens leaves
    nothing to overlap, and the schedule costs as much as a small model's pass.
    """

    def __init__(
        self,
        chunks: Sequence[GPT],
        context: ParallelContext,
        rows: int,
        length: int,
        screen: Callable[[], Screen | None] = lambda: None,
    ):
        """`screen` gives that of the output layer, or None; it is asked for when it may help."""
        self.chunks, self.context, self.screen = chunks, context, screen
        self.cache = Cache(chunks, rows, length)
        self.weight = next(chunks[0].parameters())

    @torch.inference_mode()
    def hidden(
        self, tokens: Tensor, starts: Sequence[int], ends: Sequence[int], first_row: int = 0, cached: bool = True
    ) -> Tensor | None:
        """The last stage's output after one token of each row, [rows, hidden size]; None on other stages.

        tokens [rows, columns] stand from `starts` on in rows `first_row`, …; `ends` are the columns of the tokens that
        are asked for, those behind are padding. Earlier tokens are those of the cache; with `cached` false there are
        none, and the cache is left as it is.
        """
        columns = tokens.shape[1]
        self.cache.span = span_of(starts, columns, first_row, self.weight) if cached else None
        hidden = run_stages(self.chunks, self.context, tokens, positions_of(starts, columns, tokens.device))
        self.cache.span = None
        return None if hidden is None else hidden[list(ends), range(len(ends))]

    @torch.inference_mode()
    def logits(self, hidden: Tensor | None) -> Tensor | None:
        """hidden [rows, hidden size] -> [rows, padded vocabulary] in fp32, on the last stage's first rank."""
        if hidden is None:
            return None
        part = head_logits(self.chunks[-1], hidden)
        if self.context.layout.tensor == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.context.layout.tensor)]
        dist.all_gather(parts, part.contiguous(), group=self.context.tensor_group)
        return torch.cat(parts, dim=-1) if self.context.at.tensor == 0 else None

    @torch.inference_mode()
    def best(self, hidden: Tensor | None, entries: int) -> Tensor | None:
        """The most probable of the first `entries` for each row, [rows], where `logits` has them."""
        found = None
        if hidden is not None and (screen := self.screen()):
            found = screen.best(hidden)
        if found is None and (logits := self.logits(hidden)) is not None:
            found = logits[:, :entries].argmax(-1)
        return found

    def share(self, values: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """What the last stage's first rank has, as float64 of that shape, on all ranks."""
        if values is None:
            values = torch.empty(shape, dtype=torch.float64)
        if self.context.layout.pipeline * self.context.layout.tensor == 1:
            return values
        values = values.to(self.weight.device)
        at = replace(self.context.at, pipe=self.context.layout.pipeline - 1, tensor=0)
        dist.broadcast(values, self.context.layout.rank(at), group=self.context.model_group)
        return values.cpu()
