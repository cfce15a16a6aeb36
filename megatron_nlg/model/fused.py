"""The parts of a model that move memory and hardly compute, each as one function that torch.compile makes a kernel of.

The activation runs uncompiled on the CPU: what is compiled is the mathematics that every other test covers. All are
leaves without communication or modules of their own, so that DeepSpeed's hooks on modules and gradients see nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from torch import Tensor

from megatron_nlg.config.schema import Model

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "swiglu": F.silu,
    "geglu": F.gelu,
}


class FusedMLP(MLP):  # type: ignore[misc]
    """Megatron-core's MLP with bias, activation and gate in one function; the names of its parameters are the same."""

    activate: Callable[[Tensor, Tensor | None], Tensor]
    """Set by `build_chunks`: one for all layers, so that it is compiled once."""

    def __init__(self, config: Any):
        super().__init__(config, MLPSubmodules(ColumnParallelLinear, None, RowParallelLinear))

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor | None]:
        """hidden_states [sequence, batch, hidden] -> output of the same shape, and the bias still to be added to it."""
        inner, bias = self.linear_fc1(hidden_states)
        out: tuple[Tensor, Tensor | None] = self.linear_fc2(self.activate(inner, bias))
        return out


def activation(model: Model) -> Callable[[Tensor, Tensor | None], Tensor]:
    """The MLP's (x [..., f or 2f], bias or None) -> [..., f]; a gated one has the gate's half first."""
    function, gated = ACTIVATIONS[model.activation], model.gated

    def activate(x: Tensor, bias: Tensor | None) -> Tensor:
        if bias is not None:
            x = x + bias
        if not gated:
            return function(x)
        gate, linear = x.chunk(2, dim=-1)
        return function(gate) * linear

    return activate


def cross_entropy(logits: Tensor, labels: Tensor, true_vocab_size: int) -> Tensor:
    """logits [sequence, batch, rows], labels [batch, sequence] -> loss per token [batch, sequence], fp32.

    Rows past the tokenizer's entries take no part. Compiled, neither an fp32 copy of the logits nor their softmax is
    kept.
    """
    sequence, batch, _ = logits.shape
    known = logits[..., :true_vocab_size].flatten(0, 1).float()
    return F.cross_entropy(known, labels.t().flatten(), reduction="none").view(sequence, batch).t()
