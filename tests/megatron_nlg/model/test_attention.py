"""Core attention against the formula."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from megatron_nlg.model.attention import NaiveAttention, Rotary, ScaledDotProductAttention, own_positions
from tests.world import World

SEQUENCE, BATCH, HEADS, SIZE = 8, 2, 4, 6


def attention(
    groups: int = HEADS, context_group: object = None, kind: type[ScaledDotProductAttention] = ScaledDotProductAttention
) -> ScaledDotProductAttention:
    config = SimpleNamespace(
        attention_dropout=0.0,
        sequence_parallel=False,
        num_attention_heads=HEADS,
        num_query_groups=groups,
        context_parallel_size=1 if context_group is None else 2,
    )
    return kind(config, 1, None, "self", pg_collection=SimpleNamespace(cp=context_group))


def draw(groups: int = HEADS) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, fp64, requiring gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(SEQUENCE, BATCH, heads, SIZE) for heads in (HEADS, groups, groups)]
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    return q, k, v


def formula(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """softmax(q kᵀ / √size) v; `hidden` [batch or 1, 1, sequence, sequence] is True where a key is not seen."""
    k, v = (t.repeat_interleave(HEADS // t.shape[2], dim=2) for t in (k, v))
    scores = torch.einsum("sbhd,tbhd->bhst", q, k) / SIZE**0.5
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.einsum("bhst,tbhd->sbhd", weights, v).reshape(SEQUENCE, BATCH, HEADS * SIZE)


CAUSAL = torch.ones(1, 1, SEQUENCE, SEQUENCE, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("groups", [HEADS, 2, 1])
def test_equals_softmax_under_a_causal_mask(groups: int) -> None:
    q, k, v = draw(groups)
    torch.testing.assert_close(attention(groups)(q, k, v), formula(q, k, v, CAUSAL), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [HEADS, 2, 1])
def test_naive_attention_has_the_same_values_and_gradients(groups: int) -> None:
    hidden = CAUSAL | torch.eye(SEQUENCE, dtype=torch.bool).roll(-2, 1)[None, None]
    for mask in (None, hidden):
        found = []
        for kind in (ScaledDotProductAttention, NaiveAttention):
            inputs = draw(groups)
            out = attention(groups, kind=kind)(*inputs, mask)
            out.sum(dim=0).square().sum().backward()
            found.append((out, *(tensor.grad for tensor in inputs)))
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_naive_attention_in_half_precision_and_for_the_last_of_the_positions() -> None:
    q, k, v = (tensor.detach().bfloat16() for tensor in draw())
    fused, naive = (attention(kind=kind)(q[-3:], k, v) for kind in (ScaledDotProductAttention, NaiveAttention))
    assert naive.dtype == torch.bfloat16
    torch.testing.assert_close(naive, fused, rtol=2e-2, atol=2e-2)


def test_a_mask_replaces_the_causal_one() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0, 0, 0]])
    hidden = CAUSAL | (documents[:, None, :, None] != documents[:, None, None, :])
    q, k, v = draw()
    torch.testing.assert_close(attention()(q, k, v, hidden), formula(q, k, v, hidden), rtol=1e-12, atol=1e-12)


def test_a_token_sees_nothing_after_it() -> None:
    q = torch.randn(6, 1, HEADS, 4, generator=torch.Generator().manual_seed(0))
    changed = q.clone()
    changed[4:] += 1
    assert torch.equal(attention()(q, q, q)[:4], attention()(changed, changed, changed)[:4])


def shared(masked: bool) -> list[list[float]]:
    """Output and gradients of this rank's part, of two that share the sequence."""
    rank = dist.get_rank()
    own = own_positions(SEQUENCE, rank, 2, torch.device("cpu"))
    whole = draw(2)
    q, k, v = (t.detach()[own].requires_grad_() for t in whole)
    documents = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2]).expand(BATCH, -1)
    hidden = CAUSAL | (documents[:, None, :, None] != documents[:, None, None, :])
    out = attention(2, dist.group.WORLD)(q, k, v, hidden[:, :, own] if masked else None)
    weights = torch.arange(SEQUENCE, dtype=torch.float64)[own, None, None]
    (out * weights).sum().backward()
    return [t.flatten().tolist() for t in (out, q.grad, k.grad, v.grad)]


@pytest.mark.parametrize("masked", [False, True])
def test_two_ranks_that_share_a_sequence_equal_one(world: World, masked: bool) -> None:
    q, k, v = draw(2)
    documents = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2]).expand(BATCH, -1)
    hidden = CAUSAL | (documents[:, None, :, None] != documents[:, None, None, :]) if masked else CAUSAL
    out = formula(q, k, v, hidden)
    (out * torch.arange(SEQUENCE, dtype=torch.float64)[:, None, None]).sum().backward()
    for rank, parts in enumerate(world.run(2, shared, masked)):
        own = own_positions(SEQUENCE, rank, 2, torch.device("cpu"))
        for got, want in zip(parts, (out, q.grad, k.grad, v.grad), strict=True):
            torch.testing.assert_close(torch.tensor(got).double(), want[own].flatten(), rtol=1e-6, atol=1e-6)


def test_positions_give_every_rank_the_same_work() -> None:
    parts = [own_positions(12, rank, 3, torch.device("cpu")).tolist() for rank in range(3)]
    assert parts == [[0, 1, 10, 11], [2, 3, 8, 9], [4, 5, 6, 7]]
    assert len({sum(part) for part in parts}) == 1
    assert own_positions(3, 0, 1, torch.device("cpu")).tolist() == [0, 1, 2]


def test_rotation_depends_on_distance_only() -> None:
    from megatron.core.models.common.embeddings.rope_utils import apply_rotary_pos_emb

    group = SimpleNamespace(rank=lambda: 0, size=lambda: 1)
    rotary = Rotary(SimpleNamespace(kv_channels=SIZE), 100.0, 0.7, group, torch.device("cpu"))
    angles = rotary(SEQUENCE)
    assert angles.shape == (SEQUENCE, 1, 1, 4)  # 0.7 of 6, rounded down to pairs
    assert rotary(SEQUENCE) is angles and rotary(4).shape[0] == 4
    same = torch.randn(1, 1, 1, SIZE).expand(SEQUENCE, 1, 1, SIZE)
    other = torch.randn(1, 1, 1, SIZE).expand(SEQUENCE, 1, 1, SIZE)
    config = SimpleNamespace(apply_rope_fusion=False, rotary_interleaved=False, multi_latent_attention=False)
    q, k = (apply_rotary_pos_emb(t, rotary(SEQUENCE), config=config, cp_group=group)[:, 0, 0] for t in (same, other))
    scores = q @ k.T
    for distance in range(SEQUENCE):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-5, atol=1e-5)
    assert (scores[-1] - scores[-1, 0]).abs().max() > 1e-2
