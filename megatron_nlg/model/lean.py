"""A chunk's layers without Megatron-core's bookkeeping, for passes so small that it would cost as much as they do.

The same weights, norms, attention and activation as in training, called in the same order; nothing is kept for a
backward pass, and a bias is added within the product. It is tested to give the logits of the full path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core.models.common.embeddings.rope_utils import apply_rotary_pos_emb
from torch import Tensor

from megatron_nlg.model.gpt import GPT
from megatron_nlg.parallel.context import ParallelContext


def run_stages(chunks: Sequence[GPT], context: ParallelContext, tokens: Tensor, positions: Tensor) -> Tensor | None:
    """One pass of tokens at positions, both [rows, tokens], through all chunks of all stages, one after the other.

    Collective over the replica. Returns [tokens, rows, hidden size] after the final norm on the last stage, else None.
    """
    stage, stages, group = context.at.pipe, context.layout.pipeline, context.pipeline_group
    before, after = (context.layout.rank(replace(context.at, pipe=(stage + by) % stages)) for by in (-1, 1))
    out: Tensor | None = None
    for chunk in chunks:
        if chunk.pre_process:
            hidden = chunk.embedding(input_ids=tokens, position_ids=positions)
        else:
            weight = next(chunk.parameters())
            hidden = weight.new_empty(tokens.shape[1], tokens.shape[0], chunk.config.hidden_size)
            dist.recv(hidden, before, group=group)
        angles = None if chunk.position_embedding_type != "rope" else chunk.rotary_pos_emb.angles(positions.t())
        hidden = run_layers(chunk, hidden, angles)
        if chunk.post_process:
            out = hidden
        else:
            dist.send(hidden.contiguous(), after, group=group)
    return out


def head_logits(chunk: GPT, hidden: Tensor) -> Tensor:
    """hidden [..., hidden size] -> this tensor rank's part of the logits, fp32, impossible entries at the minimum."""
    return chunk.mask_padding(F.linear(hidden, head_weight(chunk))).float()


def head_weight(chunk: GPT) -> Tensor:
    """The output layer of the last stage, [this tensor rank's entries, hidden size]."""
    tied = chunk.share_embeddings_and_output_weights
    weight: Tensor = chunk.shared_embedding_or_output_weight() if tied else chunk.output_layer.weight
    return weight


def run_layers(chunk: GPT, hidden: Tensor, angles: Tensor | None) -> Tensor:
    """hidden [tokens, rows, hidden size] -> the same shape, after the final norm on the last stage."""
    group = chunk.pg_collection.tp if chunk.config.tensor_model_parallel_size > 1 else None
    for layer in chunk.decoder.layers:
        attention, mlp = layer.self_attention, layer.mlp
        query, key, value = _heads(attention, layer.input_layernorm(hidden), angles)
        hidden = hidden + _summed(attention.linear_proj, attention.core_attention(query, key, value), group)
        up = mlp.linear_fc1
        inner = mlp.activate(F.linear(layer.pre_mlp_layernorm(hidden), up.weight, up.bias), None)
        hidden = hidden + _summed(mlp.linear_fc2, inner, group)
    norm = chunk.decoder.final_layernorm
    return hidden if norm is None else norm(hidden)


def _heads(attention: Any, x: Tensor, angles: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """x [tokens, rows, hidden size] -> query, key and value [tokens, rows, heads or groups, head size], this rank's."""
    groups, size = attention.num_query_groups_per_partition, attention.hidden_size_per_attention_head
    queries = attention.num_attention_heads_per_partition // groups * size
    mixed = F.linear(x, attention.linear_qkv.weight, attention.linear_qkv.bias).view(*x.shape[:2], groups, -1)
    query, key, value = torch.split(mixed, [queries, size, size], dim=-1)
    query = query.reshape(*x.shape[:2], -1, size)
    if angles is not None:
        options = {"config": attention.config, "cp_group": attention.pg_collection.cp}
        query, key = (apply_rotary_pos_emb(t, angles, **options) for t in (query, key))
    return query, key, value


def _summed(linear: Any, x: Tensor, group: Any) -> Tensor:
    """A product whose parts lie on the ranks of a group, with its bias."""
    if group is None:
        return F.linear(x, linear.weight, linear.bias)
    out = F.linear(x, linear.weight)
    dist.all_reduce(out, group=group)
    return out if linear.bias is None else out + linear.bias
