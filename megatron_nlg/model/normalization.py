"""LayerNorm with the constructor that Megatron-core's layer specs expect."""

from __future__ import annotations

from typing import Any

from torch import nn


class LayerNorm(nn.LayerNorm):
    """torch's LayerNorm; its parameters are marked for the gradient all-reduce of sequence parallelism.

    Under sequence parallelism a rank's norm sees its part of the sequence only, so the gradients of its parameters are
    partial sums. Megatron-core's own fallback without apex refuses sequence parallelism.
    """

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-5, **_: Any):
        super().__init__(hidden_size, eps=eps, device=None, dtype=config.params_dtype)
        for parameter in (self.weight, self.bias):
            vars(parameter)["sequence_parallel"] = config.sequence_parallel
