"""The small model of the equality tests."""

from __future__ import annotations

from typing import Any

from megatron_nlg.config.base import apply_overrides, build
from megatron_nlg.config.schema import RunConfig

TREE: dict[str, Any] = {
    "model": {
        "num_layers": 4,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "sequence_length": 32,
        "vocab_size": 250,
        "vocab_multiple": 64,
        "init_std": 0.05,
    },
    "batch": {"micro": 2, "global": 16},
    "precision": "fp32",
    "optimizer": {"lr": 1e-3},
    "schedule": {"train_tokens": 16 * 32 * 20},
    "distributed": {"timeout_seconds": 60},
}


LLAMA = (
    "model.activation=swiglu model.normalization=rmsnorm model.bias=false model.position_embedding=rotary "
    "model.tie_embeddings=false model.num_query_groups=2 model.ffn_hidden_size=96"
)
"""Llama's shape, as overrides."""


def tiny(*overrides: str) -> RunConfig:
    """The tiny config with dotted overrides."""
    return build(RunConfig, apply_overrides(TREE, overrides), "tiny")
