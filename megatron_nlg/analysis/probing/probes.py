"""Probes on frozen representations: a bank holds one probe for each layer and trains them side by side.

All parameters have a first dimension of layers (one, for a mixture of them), so that the probes of a bank share
nothing: each is what it would be if it were trained alone. Several tasks are several heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kind = Literal["linear", "mlp", "mix", "multi"]
KINDS: tuple[Kind, ...] = ("linear", "mlp", "mix", "multi")
BIAS = 8
"""Inputs that a bias counts for: frequencies of classes are learned in some tens of steps."""
MIXTURE = "mix"
"""What a row of a mixture says in the place of its layer."""


class Head(nn.Module):
    """An affine map for each probe of a bank: [probes, examples, inputs] -> [probes, examples, outputs]."""

    def __init__(self, probes: int, inputs: int, outputs: int, seed: torch.Generator | None = None):
        super().__init__()
        weight = torch.zeros(probes, inputs, outputs)
        if seed:  # the same draw for all layers
            weight += (2 / inputs) ** 0.5 * torch.randn(1, inputs, outputs, generator=seed)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(probes, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return torch.baddbmm(self.bias, x, self.weight)


class Bank(nn.Module):
    """Probes of one kind. Spans of an example stand side by side.

    - `linear`: softmax regression on each layer;
    - `mlp`: one hidden layer of `width`, ReLU;
    - `mix`: softmax regression on a weighted mean of all layers (Peters et al. 2018), whose weights are learned;
    - `multi`: a projection of spans to `width`, ReLU, which all tasks share, and softmax regression for each.

    Output layers begin at 0: before training, all classes are equally likely.
    """

    def __init__(self, kind: Kind, layers: int, hidden: int, heads: Sequence[tuple[int, int]], width: int, seed: int):
        """`heads` are (spans, classes) of each task; all but `multi` have one."""
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.kind, self.probes = kind, 1 if kind == "mix" else layers
        spans, _ = heads[0]
        inside = {"mlp": spans * hidden, "multi": hidden}.get(kind)
        self.inner = Head(self.probes, inside, width, chance) if inside else None
        self.mixture = nn.Parameter(torch.zeros(1, layers)) if kind == "mix" else None
        each = width if kind == "multi" else hidden  # numbers that a head sees of a span
        sizes = [(width if kind == "mlp" else spans * each, classes) for spans, classes in heads]
        self.heads = nn.ModuleList(Head(self.probes, size, classes) for size, classes in sizes)

    def groups(self, step: float) -> list[dict[str, Any]]:
        """Parameters with their learning rates: `step` over the inputs of a map, and over the layers of a mixture."""
        maps = [module for module in self.modules() if isinstance(module, Head)]
        found: list[dict[str, Any]] = [{"params": [each.weight], "lr": step / each.weight.shape[1]} for each in maps]
        found.append({"params": [each.bias for each in maps], "lr": step / BIAS})
        if self.mixture is not None:
            found.append({"params": [self.mixture], "lr": step / self.mixture.shape[1]})
        return found

    def forward(self, x: Tensor, task: int = 0) -> Tensor:
        """[layers, examples, spans, hidden] -> log-probabilities, [probes, examples, classes]."""
        if self.mixture is not None:
            x = torch.tensordot(self.mixture.softmax(dim=1), x, dims=1)
        if self.kind == "multi":
            assert self.inner is not None
            x = F.relu(self.inner(x.flatten(1, 2))).view(*x.shape[:3], -1)
        x = x.flatten(2)
        if self.kind == "mlp":
            assert self.inner is not None
            x = F.relu(self.inner(x))
        return F.log_softmax(self.heads[task](x), dim=2)


def standardized(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over examples, in every dimension of every span and layer.

    Of [layers, examples, spans, hidden], in the same shape.
    A probe gets no labels thereby; without it, a few dimensions of large variance decide how fast it learns.
    """
    deviation, mean = torch.std_mean(x, dim=1, keepdim=True, correction=0)
    return (x - mean) / deviation.clamp(min=1e-6)
