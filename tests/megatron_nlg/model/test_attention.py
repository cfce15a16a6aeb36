"""Core attention against the formula."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from megatron_nlg.model.attention import ScaledDotProductAttention, causal_positions


def attention() -> ScaledDotProductAttention:
    config = SimpleNamespace(attention_dropout=0.0, sequence_parallel=False)
    return ScaledDotProductAttention(config, 1, None, "self")


def test_equals_softmax_under_a_causal_mask() -> None:
    sequence, batch, heads, size = 7, 2, 3, 8
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(sequence, batch, heads, size, generator=draw, dtype=torch.float64) for _ in range(3))
    got = attention()(q, k, v)
    scores = torch.einsum("sbhd,tbhd->bhst", q, k) / size**0.5
    scores = scores.masked_fill(torch.ones(sequence, sequence, dtype=torch.bool).triu(1), float("-inf"))
    want = torch.einsum("bhst,tbhd->sbhd", scores.softmax(-1), v).reshape(sequence, batch, heads * size)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_a_token_sees_nothing_after_it() -> None:
    q = torch.randn(6, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    changed = q.clone()
    changed[4:] += 1
    assert torch.equal(attention()(q, q, q)[:4], attention()(changed, changed, changed)[:4])


def test_positions() -> None:
    assert causal_positions(torch.zeros(2, 3)).tolist() == [[0, 1, 2], [0, 1, 2]]
