"""Names of parameters that do not depend on the layout.

Megatron-core numbers a chunk's layers from 0 and calls the last stage's copy of a tied embedding, and here also a
classifier's head, `output_layer`. A parameter's global name carries the layer's number in the whole model and the
embedding's own name, so that initial weights and checkpoints are the same for every layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

LAYERS = "decoder.layers."
EMBEDDING = "embedding.word_embeddings.weight"
OUTPUT = "output_layer.weight"
CLASSIFIER = "classifier."
"""The head of task classification: `classifier.weight` and `classifier.bias`, whole on every tensor rank."""
GATED = ("mlp.linear_fc1.weight", "mlp.linear_fc1.bias")


@dataclass(frozen=True)
class NamedParameter:
    """A rank's part of a parameter."""

    name: str
    """Global name."""
    parameter: nn.Parameter
    """This rank's part."""
    shape: torch.Size
    """Logical shape of this rank's part: a row-major view of the parameter. The two matrices of a gated MLP, which
    Megatron-core keeps below each other on every rank, are [2, rows, columns]."""
    cut: int | None
    """Dimension of `shape` that is cut over tensor-parallel ranks, or None when all of them hold it whole."""

    def whole_shape(self, tensor_parallel: int) -> torch.Size:
        """Logical shape over all tensor-parallel ranks."""
        shape = list(self.shape)
        if self.cut is not None:
            shape[self.cut] *= tensor_parallel
        return torch.Size(shape)


def named_parameters(chunks: Iterable[nn.Module]) -> Iterator[NamedParameter]:
    """All parameters of this rank's chunks under their global names, in a fixed order."""
    for chunk in chunks:
        for name, parameter in chunk.named_parameters():
            facts = vars(parameter)
            shape = list(facts.get("ds_shape", parameter.shape))  # under ZeRO-3 the local tensor is empty
            cut: int | None = facts.get("partition_dim", -1)
            if name.endswith(GATED) and chunk.config.gated_linear_unit:  # type: ignore[union-attr]
                shape, cut = [2, shape[0] // 2, *shape[1:]], 1
            if not facts.get("tensor_model_parallel"):
                cut = None
            yield NamedParameter(global_name(chunk, name), parameter, torch.Size(shape), cut)


def global_name(chunk: nn.Module, name: str) -> str:
    """The global name of a chunk's parameter."""
    if name.startswith(LAYERS):
        local, _, rest = name.removeprefix(LAYERS).partition(".")
        number: int = chunk.decoder.layers[int(local)].layer_number - 1  # type: ignore[union-attr,index]
        return f"{LAYERS}{number}.{rest}"
    if name == OUTPUT and chunk.share_embeddings_and_output_weights:
        return EMBEDDING
    if name.startswith("output_layer.") and getattr(chunk, "classes", None):
        return CLASSIFIER + name.removeprefix("output_layer.")
    return name
