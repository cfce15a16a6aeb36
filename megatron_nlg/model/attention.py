"""Causal core attention by PyTorch's scaled_dot_product_attention (flash attention where the device has it)."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        **_: Any,
    ):
        super().__init__()
        self.dropout = config.attention_dropout if attention_dropout is None else attention_dropout
        self.sequence_parallel = config.sequence_parallel
        self.scale = softmax_scale

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """query, key, value [sequence, batch, heads, head size] -> [sequence, batch, heads × head size].

        The heads are this rank's, so dropout draws from the stream that differs between tensor-parallel ranks; under
        sequence parallelism the whole block already does.
        """
        query, key, value = (t.permute(1, 2, 0, 3) for t in (query, key, value))  # [batch, heads, sequence, size]
        dropout = self.dropout if self.training else 0.0
        with self._rng() if dropout and not self.sequence_parallel else contextlib.nullcontext():
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout, scale=self.scale)
        batch, heads, sequence, size = out.shape
        return out.permute(2, 0, 1, 3).reshape(sequence, batch, heads * size)

    @staticmethod
    def _rng() -> contextlib.AbstractContextManager[None]:
        from megatron.core.tensor_parallel.random import get_cuda_rng_tracker

        fork: contextlib.AbstractContextManager[None] = get_cuda_rng_tracker().fork()
        return fork


def causal_positions(tokens: Tensor) -> Tensor:
    """Position of every token, [batch, sequence]."""
    return torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
