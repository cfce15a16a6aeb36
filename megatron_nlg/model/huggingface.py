"""GPT-2 as Hugging Face's transformers keep it, in this project's names and shapes, and back. Pure tensor functions.

transformers keep matrices as [inputs, outputs], and queries, keys and values of all heads one after the other;
Megatron-core as [outputs, inputs], query, key and value head by head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from megatron_nlg.config.errors import ConfigError, Problem
from megatron_nlg.config.schema import Model
from megatron_nlg.model.naming import EMBEDDING

ARCHITECTURE = "GPT2LMHeadModel"
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
"""Theirs -> ours."""
PREFIX = "transformer."
IGNORED = re.compile(r"(^lm_head\.weight|\.attn\.(bias|masked_bias))$")
"""The tied embedding's second name, and masks."""
WHOLE = {
    "wte.weight": EMBEDDING,
    "wpe.weight": "embedding.position_embeddings.weight",
    "ln_f.weight": "decoder.final_layernorm.weight",
    "ln_f.bias": "decoder.final_layernorm.bias",
}
IN_LAYER = {
    "ln_1": "input_layernorm",
    "attn.c_attn": "self_attention.linear_qkv",
    "attn.c_proj": "self_attention.linear_proj",
    "ln_2": "pre_mlp_layernorm",
    "mlp.c_fc": "mlp.linear_fc1",
    "mlp.c_proj": "mlp.linear_fc2",
}


@dataclass(frozen=True)
class Name:
    """A tensor's two names."""

    theirs: str
    """Without `transformer.`, which some files have and some have not."""
    ours: str

    @property
    def is_matrix(self) -> bool:
        """Whether it is stored the other way round."""
        return ".c_" in self.theirs and self.theirs.endswith(".weight")

    @property
    def is_qkv(self) -> bool:
        """Whether it holds queries, keys and values."""
        return ".c_attn." in self.theirs


def names(model: Model) -> Iterator[Name]:
    """All tensors of a model."""
    for theirs, ours in WHOLE.items():
        yield Name(theirs, ours)
    for layer in range(model.num_layers):
        for theirs, ours in IN_LAYER.items():
            for part in ("weight", "bias"):
                yield Name(f"h.{layer}.{theirs}.{part}", f"decoder.layers.{layer}.{ours}.{part}")


def their_shape(name: Name, model: Model) -> tuple[int, ...]:
    """Shape of a tensor as transformers have it."""
    hidden = model.hidden_size
    rows = {"wte.weight": model.vocab_size, "wpe.weight": model.sequence_length}
    if name.theirs in rows:
        return rows[name.theirs], hidden
    columns = {"c_attn": 3 * hidden, "c_fc": model.ffn_size}
    last = next((size for part, size in columns.items() if part in name.theirs), hidden)
    if not name.is_matrix:
        return (last,)
    return (model.ffn_size if "mlp.c_proj" in name.theirs else hidden), last


def to_ours(name: Name, tensor: Tensor, model: Model) -> Tensor:
    """A tensor of transformers' as Megatron-core keeps it whole; the vocabulary is padded with zeros."""
    if name.is_matrix:
        tensor = tensor.t()
    if name.is_qkv:
        heads = (3, model.num_attention_heads, model.head_size, *tensor.shape[1:])
        tensor = tensor.reshape(heads).transpose(0, 1).reshape(tensor.shape)
    if name.ours == EMBEDDING:
        padding = tensor.new_zeros(model.padded_vocab_size - model.vocab_size, model.hidden_size)
        tensor = torch.cat([tensor, padding])
    return tensor.contiguous()


def to_theirs(name: Name, tensor: Tensor, model: Model) -> Tensor:
    """The other way round."""
    if name.ours == EMBEDDING:
        tensor = tensor[: model.vocab_size]
    if name.is_qkv:
        heads = (model.num_attention_heads, 3, model.head_size, *tensor.shape[1:])
        tensor = tensor.reshape(heads).transpose(0, 1).reshape(tensor.shape)
    if name.is_matrix:
        tensor = tensor.t()
    return tensor.contiguous()


def model_of(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The `model` section of a run config from a config.json. Raises ConfigError that lists all that is not GPT-2's."""
    problems = [Problem(key, message) for key, message in _differences(config)]
    sizes = {
        "num_layers": "n_layer",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "vocab_size": "vocab_size",
    }
    given = {**sizes, "sequence_length": "n_positions"}
    for key in given.values():
        if not isinstance(config.get(key), int) or config[key] < 1:
            problems.append(Problem(key, f"a whole number is expected, not {config.get(key)!r}"))
    if problems:
        raise ConfigError(problems, source)
    return {
        **{ours: config[theirs] for ours, theirs in given.items()},
        "ffn_hidden_size": config.get("n_inner") or 4 * config["n_embd"],
        "activation": ACTIVATIONS[config.get("activation_function", "gelu_new")],
        "norm_eps": float(config.get("layer_norm_epsilon", 1e-5)),
        "dropout": float(config.get("resid_pdrop", 0.1)),
    }


def _differences(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if config.get("model_type") != "gpt2":
        yield "model_type", f"{config.get('model_type')!r} is not supported; gpt2 is"
        return
    if (activation := config.get("activation_function", "gelu_new")) not in ACTIVATIONS:
        yield "activation_function", f"{activation!r} is not supported; {', '.join(ACTIVATIONS)} are"
    for key, usual in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
        ("tie_word_embeddings", True),
    ):
        if config.get(key, usual) != usual:
            yield key, f"{config[key]!r} is not supported"
    if len({config.get(f"{part}_pdrop", 0.1) for part in ("resid", "attn", "embd")}) > 1:
        yield "resid_pdrop", "differs from attn_pdrop or embd_pdrop; here one dropout rate is that of all"


def config_of(model: Model, eod: int | None, source: str) -> dict[str, Any]:
    """A config.json. Raises ConfigError that lists all settings that GPT-2 does not have."""
    wanted = {
        "position_embedding": "learned",
        "normalization": "layernorm",
        "bias": True,
        "tie_embeddings": True,
        "query_groups": model.num_attention_heads,
    }
    problems = [
        Problem(f"model.{key}", f"is {getattr(model, key)!r}, and GPT-2 has {value!r}; it can't be exported as one")
        for key, value in wanted.items()
        if getattr(model, key) != value
    ]
    theirs = {"gelu": "gelu", "gelu_tanh": "gelu_new"}
    if model.activation not in theirs:
        problems.append(
            Problem("model.activation", f"{model.activation!r} is not GPT-2's; it can't be exported as one")
        )
    if problems:
        raise ConfigError(problems, source)
    ends = {} if eod is None else {"bos_token_id": eod, "eos_token_id": eod}
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "gpt2",
        "n_layer": model.num_layers,
        "n_embd": model.hidden_size,
        "n_head": model.num_attention_heads,
        "n_inner": model.ffn_size,
        "n_positions": model.sequence_length,
        "vocab_size": model.vocab_size,
        "activation_function": theirs[model.activation],
        "layer_norm_epsilon": model.norm_eps,
        "resid_pdrop": model.dropout,
        "attn_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "torch_dtype": "float32",
        **ends,
    }
