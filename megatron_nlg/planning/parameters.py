"""Exact parameter counts: of the model, of a pipeline stage, and of one rank.

Those of Megatron-core's GPTModel as `model/gpt.py` builds it, with a final norm. For GPT's shape the closed form
12Lh²(1 + 13/(12h) + (V + s)/(12Lh)) of Narayanan et al. 2021 (equation 2) leaves the last one out.
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
    """Parts of one transformer layer: 12h² + 13h parameters in all in GPT's shape with an MLP of 4h."""
    hidden, ffn, bias = model.hidden_size, model.ffn_size, int(model.bias)
    heads = hidden + 2 * model.query_groups * model.head_size  # queries, keys, values
    up = 2 * ffn if model.gated else ffn
    return {
        # Query, key and value with biases are cut by columns; the projection by rows, its bias stays whole.
        "attention": Component(cut=(hidden + bias) * heads + hidden * hidden, whole=bias * hidden),
        "mlp": Component(cut=(hidden + bias) * up + ffn * hidden, whole=bias * hidden),
        "norms": norm(model) * 2,
    }


def norm(model: Model) -> Component:
    """Scale and, for LayerNorm, shift."""
    return Component(whole=model.hidden_size * (1 if model.normalization == "rmsnorm" else 2))


def word_embedding(model: Model) -> Component:
    """Padded vocabulary × hidden: the input embedding, and the output layer's weight of the same shape."""
    return Component(cut=model.padded_vocab_size * model.hidden_size)


def position_embedding(model: Model) -> dict[str, Component]:
    """A vector a position, where they are learned."""
    if model.position_embedding == "rotary":
        return {}
    return {"position_embedding": Component(whole=model.sequence_length * model.hidden_size)}


def model_components(model: Model) -> dict[str, Component]:
    """All parts of the model, in the order in which tokens pass through; their totals sum to the parameter count."""
    parts = {
        "word_embedding": word_embedding(model),
        **position_embedding(model),
        **{name: part * model.num_layers for name, part in layer_components(model).items()},
        "final_norm": norm(model),
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
        parts |= {"word_embedding": whole["word_embedding"], **position_embedding(model)}
    parts |= {name: part * (model.num_layers // stages) for name, part in layer_components(model).items()}
    if pipe == stages - 1:
        parts["final_norm"] = whole["final_norm"]
        if not model.tie_embeddings or stages > 1:
            parts["output_layer"] = word_embedding(model)
    return parts


def rank_parameters(config: RunConfig, pipe: int) -> int:
    """Parameters on one rank of pipeline stage `pipe` (all its tensor ranks hold the same number)."""
    return sum(part.per_rank(config.parallel.tensor) for part in stage_components(config, pipe).values())
