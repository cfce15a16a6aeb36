"""Exact parameter counts: of the model, of a pipeline stage, and of one rank.

Those of Megatron-core's GPTModel as `model/gpt.py` builds it: biases everywhere, learned positions, a final LayerNorm.
The closed form 12Lh²(1 + 13/(12h) + (V + s)/(12Lh)) of Narayanan et al. 2021 (equation 2) leaves the last one out.
"""

from __future__ import annotations

from dataclasses import dataclass

from megatron_nlg.config.schema import Model, RunConfig


@dataclass(frozen=True)
class Component:
    """Parameters of one kind: those that tensor parallelism cuts, and those that every tensor rank holds whole."""

    cut: int = 0
    whole: int = 0

    @property
    def total(self) -> int:
        """Parameters, each counted once."""
        return self.cut + self.whole

    def per_rank(self, tensor: int) -> int:
        """Parameters on one of `tensor` tensor-parallel ranks."""
        return self.cut // tensor + self.whole

    def __mul__(self, times: int) -> Component:
        return Component(self.cut * times, self.whole * times)


def layer_components(model: Model) -> dict[str, Component]:
    """Parts of one transformer layer: 12h² + 13h parameters in all when the MLP is 4h wide."""
    hidden, ffn = model.hidden_size, model.ffn_size
    return {
        # Query, key and value with biases are cut by columns; the projection by rows, its bias stays whole.
        "attention": Component(cut=3 * hidden * hidden + 3 * hidden + hidden * hidden, whole=hidden),
        "mlp": Component(cut=hidden * ffn + ffn + ffn * hidden, whole=hidden),
        "layer_norms": Component(whole=4 * hidden),
    }


def word_embedding(model: Model) -> Component:
    """Padded vocabulary × hidden: the input embedding, and the output layer's weight of the same shape."""
    return Component(cut=model.padded_vocab_size * model.hidden_size)


def model_components(model: Model) -> dict[str, Component]:
    """All parts of the model, in the order in which tokens pass through; their totals sum to the parameter count."""
    parts = {
        "word_embedding": word_embedding(model),
        "position_embedding": Component(whole=model.sequence_length * model.hidden_size),
        **{name: part * model.num_layers for name, part in layer_components(model).items()},
        "final_layer_norm": Component(whole=2 * model.hidden_size),
    }
    if not model.tie_embeddings:
        parts["output_layer"] = word_embedding(model)
    return parts


def total_parameters(model: Model) -> int:
    """Parameters of the model; a tied embedding counts once, padding of the vocabulary counts."""
    return sum(part.total for part in model_components(model).values())


def stage_components(config: RunConfig, pipe: int) -> dict[str, Component]:
    """Parts that pipeline stage `pipe` holds. A tied embedding lies on the first and on the last stage."""
    model, stages = config.model, config.parallel.pipeline
    whole = model_components(model)
    parts: dict[str, Component] = {}
    if pipe == 0:
        parts |= {name: whole[name] for name in ("word_embedding", "position_embedding")}
    parts |= {name: part * (model.num_layers // stages) for name, part in layer_components(model).items()}
    if pipe == stages - 1:
        parts["final_layer_norm"] = whole["final_layer_norm"]
        if not model.tie_embeddings or stages > 1:
            parts["output_layer"] = word_embedding(model)
    return parts


def rank_parameters(config: RunConfig, pipe: int) -> int:
    """Parameters on one rank of pipeline stage `pipe` (all its tensor ranks hold the same number)."""
    return sum(part.per_rank(config.parallel.tensor) for part in stage_components(config, pipe).values())
