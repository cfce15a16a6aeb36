"""LayerNorm and RMSNorm with the constructor that Megatron-core's layer specs expect.

Under sequence parallelism a rank's norm sees its part of the sequence only, so the gradients of its parameters are
partial sums: they are marked for the all-reduce that the engine makes. Megatron-core's own fallback without apex
refuses sequence parallelism.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class LayerNorm(nn.LayerNorm):
    """torch's LayerNorm."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any):
        super().__init__(hidden_size, eps=eps, device=None, dtype=config.params_dtype)
        _mark(self, config)


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm (Zhang and Sennrich 2019): no mean, no bias."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any):
        super().__init__(hidden_size, eps=eps, device=None, dtype=config.params_dtype)
        _mark(self, config)


def _mark(norm: nn.Module, config: Any) -> None:
    for parameter in norm.parameters():
        vars(parameter)["sequence_parallel"] = config.sequence_parallel
