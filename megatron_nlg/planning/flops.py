"""Floating-point operations of training: the model's, and with recomputation the hardware's."""

from __future__ import annotations

from typing import Literal

from megatron_nlg.config.schema import Model


def forward_flops_per_token(model: Model) -> tuple[float, float, float]:
    """Of the layers' matrices, of attention scores and values (the whole square), and of the logits."""
    layers, hidden = model.num_layers, model.hidden_size
    keys = model.query_groups * model.head_size
    matrices = 2 * layers * hidden * (2 * hidden + 2 * keys + (3 if model.gated else 2) * model.ffn_size)
    return (
        float(matrices),
        float(4 * layers * model.sequence_length * hidden),
        float(2 * hidden * model.padded_vocab_size),
    )


def model_flops_per_token(model: Model, logits: bool = True) -> float:
    """Forward and backward pass of one token, without recomputation: what MFU is of.

    Three times the forward pass: 6·L·(2h² + 2hk + 2hf) for the matrices, where k is the width of all keys (h without
    query groups) and a gated MLP has 3hf, 12·L·s·h for attention scores and values (the whole square, as in the
    source), 6·h·V for the logits. With k = h and f = 4h this is the 72·L·h²·(1 + s/(6h) + V/(12Lh)) of
    Narayanan et al. 2021 (equation 3, less recomputation), which MT-NLG uses. V is the padded vocabulary. Without
    `logits` it is a classifier's, whose head counts as nothing.
    """
    return 3 * sum(forward_flops_per_token(model)[: 3 if logits else 2])


def hardware_flops_per_token(model: Model, recompute: Literal["none", "selective", "full"]) -> float:
    """With what is computed a second time: all layers, or their attention. HFU is of this.

    With full recomputation the 96·L·h²·(1 + s/(6h) + V/(16Lh)) of the same source.
    """
    matrices, attention, _ = forward_flops_per_token(model)
    again = {"none": 0.0, "selective": attention, "full": matrices + attention}[recompute]
    return model_flops_per_token(model) + again


def step_flops(model: Model, sequences: int, recompute: Literal["none", "selective", "full"]) -> float:
    """The hardware's, of a step of so many sequences."""
    return sequences * model.sequence_length * hardware_flops_per_token(model, recompute)
