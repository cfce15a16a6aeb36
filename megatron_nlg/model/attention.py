"""Causal core attention by PyTorch's scaled_dot_product_attention (flash attention where the device has it).

Under context parallelism a rank holds two pieces of every sequence, the r-th from the front and the r-th from the back
of 2 × ranks equal ones, so that all ranks have the same work under the causal mask (Llama 3, section 3.3.2). Queries
stay where they are; keys and values are gathered from all ranks of the context group, and their gradients scattered.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right

if TYPE_CHECKING:
    from megatron_nlg.model.cache import Span


class KeptKeys(Protocol):
    """Keys and values of earlier passes, which a pass adds to."""

    span: Span | None
    """None: the pass leaves them alone."""

    def extend(self, slot: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take [tokens, rows, groups, size] of a layer; returns [rows, groups, seen, size] of keys and of values."""


class ScaledDotProductAttention(nn.Module):
    """softmax(q kᵀ × scale) v under a causal mask, with the interface of Megatron-core's core attention."""

    def __init__(
        self,
        config: Any,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        pg_collection: Any = None,
        **_: Any,
    ):
        super().__init__()
        self.dropout = config.attention_dropout if attention_dropout is None else attention_dropout
        self.sequence_parallel = config.sequence_parallel
        self.scale = softmax_scale
        self.grouped = config.num_query_groups != config.num_attention_heads
        self.context_group: Any = pg_collection.cp if config.context_parallel_size > 1 else None
        self.cache: KeptKeys | None = None
        """Set by who keeps keys; `cache_slot` is this layer's place in it."""
        self.cache_slot = 0

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """query [sequence, batch, heads, head size], key and value [sequence, batch, query groups, head size] ->
        [sequence, batch, heads × head size].

        attention_mask, where given, replaces the causal mask: [batch, 1, this rank's sequence, whole sequence], True
        where a query must not see a key. The heads are this rank's, so dropout draws from the stream that differs
        between tensor-parallel ranks; under sequence parallelism the whole block already does.
        """
        if self.cache is not None and self.cache.span is not None:
            return self._attend_cached(self.cache, query, key, value)
        with self._rng() if self._dropout and not self.sequence_parallel else contextlib.nullcontext():
            if self.context_group is None:
                return self._attend(query, key, value, attention_mask)
            key, value = self._gather(key, value)
            size, rank = self.context_group.size(), self.context_group.rank()
            masks = (None, None) if attention_mask is None else attention_mask.chunk(2, dim=2)
            parts = []
            for piece, part, mask in zip((rank, 2 * size - 1 - rank), query.chunk(2), masks, strict=True):
                seen = (piece + 1) * part.shape[0]  # keys after the piece's own can't be seen
                hidden = None if mask is None else mask[..., :seen]
                parts.append(self._attend(part, key[:seen], value[:seen], hidden))
            return torch.cat(parts)

    @property
    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Queries that are the last of the keys' positions; shapes as in `forward`."""
        query, key, value = (t.permute(1, 2, 0, 3) for t in (query, key, value))  # [batch, heads, sequence, size]
        square = query.shape[2] == key.shape[2]
        bias: Any = None
        if mask is not None:
            bias = ~mask
        elif not square:
            bias = causal_lower_right(query.shape[2], key.shape[2])
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            is_causal=bias is None,
            dropout_p=self._dropout,
            scale=self.scale,
            enable_gqa=self.grouped,
        )
        batch, heads, sequence, size = out.shape
        return out.permute(2, 0, 1, 3).reshape(sequence, batch, heads * size)

    def _attend_cached(self, cache: KeptKeys, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries of new tokens against the cache, which gets their keys and values; shapes as in `forward`."""
        span = cache.span
        assert span is not None
        keys, values = cache.extend(self.cache_slot, key, value)
        sequence, batch, heads, size = query.shape
        query, grouped = query.permute(1, 2, 0, 3), self.grouped
        if sequence == 1 and self.grouped:  # query heads of a group see the same keys: they are its queries
            query, grouped = query.reshape(batch, keys.shape[1], -1, size), False
        out = F.scaled_dot_product_attention(
            query, keys, values, attn_mask=span.mask, is_causal=span.causal, scale=self.scale, enable_gqa=grouped
        )
        return out.reshape(batch, heads, sequence, size).permute(2, 0, 1, 3).reshape(sequence, batch, heads * size)

    def _gather(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the whole sequence in its order, by one collective."""
        from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

        both = gather_from_sequence_parallel_region(torch.stack((key, value), dim=1), group=self.context_group)
        pieces = both.chunk(2 * self.context_group.size())  # rank by rank: its front piece, its back piece
        key, value = torch.cat([*pieces[::2], *reversed(pieces[1::2])]).unbind(dim=1)
        return key, value

    @staticmethod
    def _rng() -> contextlib.AbstractContextManager[None]:
        from megatron.core.tensor_parallel.random import get_cuda_rng_tracker

        fork: contextlib.AbstractContextManager[None] = get_cuda_rng_tracker().fork()
        return fork


class NaiveAttention(ScaledDotProductAttention):
    """The same by plain matrix products: all scores and weights are written to memory, as before flash attention."""

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """As the fused one. The softmax is taken in fp32 at least, the products in the inputs' precision."""
        query, key, value = (t.permute(1, 2, 0, 3) for t in (query, key, value))  # [batch, heads, sequence, size]
        batch, heads, sequence, size = query.shape
        if self.grouped:
            key, value = (t.repeat_interleave(heads // t.shape[1], dim=1) for t in (key, value))
        if mask is None:  # the queries are the last of the keys' positions
            ones = torch.ones(sequence, key.shape[2], dtype=torch.bool, device=query.device)
            mask = ones.triu(key.shape[2] - sequence + 1)
        scores = query @ key.transpose(2, 3) * (size**-0.5 if self.scale is None else self.scale)
        hidden = scores.masked_fill(mask, float("-inf"))
        weights = hidden.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        out = F.dropout(weights, self._dropout).to(value.dtype) @ value
        return out.permute(2, 0, 1, 3).reshape(sequence, batch, heads * size)


def own_positions(length: int, context_rank: int, context_size: int, device: torch.device) -> Tensor:
    """Positions of a sequence of `length` tokens that a rank of the context group holds, [length / context_size]."""
    if context_size == 1:
        return torch.arange(length, device=device)
    pieces = torch.arange(length, device=device).chunk(2 * context_size)
    return torch.cat((pieces[context_rank], pieces[-1 - context_rank]))


class Rotary(nn.Module):
    """Angles of rotary positions (RoPE, Su et al. 2021) for this rank's part of a sequence, as Megatron-core asks."""

    def __init__(self, config: Any, base: float, fraction: float, context_group: Any, device: torch.device):
        super().__init__()
        self.context_group, self.device = context_group, device
        size = int(config.kv_channels * fraction) // 2 * 2
        self.frequencies = base ** (-torch.arange(0, size, 2, dtype=torch.float32, device=device) / size)
        self._kept: tuple[int, Tensor] | None = None

    def forward(self, length: int, **_: Any) -> Tensor:
        """Whole sequence's length -> angles [this rank's sequence, 1, 1, rotated part of the head size], fp32."""
        if self._kept is None or self._kept[0] != length:
            positions = own_positions(length, self.context_group.rank(), self.context_group.size(), self.device)
            self._kept = length, self.angles(positions[:, None])
        return self._kept[1]

    def angles(self, positions: Tensor) -> Tensor:
        """positions [sequence, batch or 1] -> angles [sequence, batch or 1, 1, rotated part of the head size], fp32."""
        angles = positions.float()[:, :, None, None] * self.frequencies
        return torch.cat((angles, angles), dim=-1)

    def get_rotary_seq_len(self, inference: Any, block: Any, embedded: Any, config: Any, packed: Any = None) -> int:
        """Length of the whole sequence, from what enters this stage ([sequence, batch, hidden])."""
        entering = embedded if embedded is not None else block.input_tensor
        length: int = entering.shape[0] * config.context_parallel_size
        return length * config.tensor_model_parallel_size if config.sequence_parallel else length


def document_mask(documents: Tensor, own: Tensor) -> Tensor:
    """Causal attention inside each document, as `forward` takes it.

    Document numbers of a whole sequence [batch, sequence] and the positions of this rank's part of it [own] ->
    [batch, 1, own, sequence], True where a token must not look.
    """
    future = torch.arange(documents.shape[1], device=documents.device) > own[:, None]
    return ((documents[:, own, None] != documents[:, None, :]) | future)[:, None]
