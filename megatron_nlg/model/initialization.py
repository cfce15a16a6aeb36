"""Initial weights: a pure function of the seed and the parameter's global name, whatever the layout.

Matrices are N(0, std²), the projections that end a residual branch N(0, std² / (2 × num_layers)) (Megatron; GPT-2,
section 2.3); biases are 0, norms 1. A matrix is drawn in a fixed number of slabs along the dimension that tensor
parallelism cuts, each from its own seed, and a rank draws only the slabs it holds a part of.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from megatron_nlg.config.schema import Model
from megatron_nlg.model.naming import NamedParameter, named_parameters
from megatron_nlg.parallel.rng import derive_seed

RESIDUAL_OUTPUTS = ("self_attention.linear_proj.weight", "mlp.linear_fc2.weight")
MOST_SLABS = 64


@torch.no_grad()
def initialize(chunks: Iterable[nn.Module], model: Model, seed: int, tensor_rank: int, tensor_size: int) -> None:
    """Fill this rank's parameters in place."""
    for item in named_parameters(chunks):
        if item.parameter.dim() < 2:
            item.parameter.fill_(0.0 if item.name.endswith("bias") else 1.0)
        else:
            matrix = _matrix(item, model, seed, tensor_rank, tensor_size)
            item.parameter.copy_(matrix.view(item.parameter.shape))


def standard_deviation(name: str, model: Model) -> float:
    """Standard deviation of a matrix's initial values."""
    shrink = (2 * model.num_layers) ** 0.5 if name.endswith(RESIDUAL_OUTPUTS) else 1.0
    return model.weight_std / shrink


def _matrix(item: NamedParameter, model: Model, seed: int, tensor_rank: int, tensor_size: int) -> torch.Tensor:
    """This rank's part of a matrix, fp32 on the CPU."""
    dim = item.cut or 0
    shape = item.whole_shape(tensor_size)
    first, last = 0, shape[dim]
    if item.cut is not None:
        size = shape[dim] // tensor_size
        first, last = tensor_rank * size, (tensor_rank + 1) * size
    slabs = next(n for n in range(min(MOST_SLABS, shape[dim]), 0, -1) if shape[dim] % n == 0)
    width = shape[dim] // slabs
    slab_shape = list(shape)
    slab_shape[dim] = width
    drawn = range(first // width, -(-last // width))
    parts = [
        torch.randn(slab_shape, generator=torch.Generator().manual_seed(derive_seed(seed, item.name, slab)))
        for slab in drawn
    ]
    whole = torch.cat(parts, dim).narrow(dim, first - drawn.start * width, last - first)
    return whole * standard_deviation(item.name, model)
