"""Import of a DeepSpeed universal checkpoint, `zero/<parameter>/{fp32,exp_avg,exp_avg_sq,step}.pt`, tensor by tensor.

Names are Megatron-core's, whatever wraps the model (`module.`, `model.`, our engine's `chunks.0.`), with Transformer
Engine's norms inside the linear layers, or those of Megatron-DeepSpeed. Files are read with `weights_only=True`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import MetadataIndex

from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import Model, RunConfig
from megatron_nlg.model.naming import EMBEDDING, GATED, OUTPUT
from megatron_nlg.planning.parameters import total_parameters
from megatron_nlg.training.checkpoint.format import EVERYTHING, WEIGHT, Progress, model_identity
from megatron_nlg.training.checkpoint.publish import publish_alone
from megatron_nlg.training.checkpoint.state import Piece

FILES = {"weight": "fp32", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
PREFIX = re.compile(r"^((module|model|language_model|chunks\.0)\.)+")
NAMES = (
    (r"^encoder\.", "decoder."),
    (r"^(embedding\.)?word_embeddings\.", "embedding.word_embeddings."),
    (r"^lm_head\.", "output_layer."),
    (r"self_attention\.linear_qkv\.layer_norm_", "input_layernorm."),
    (r"mlp\.linear_fc1\.layer_norm_", "pre_mlp_layernorm."),
    (r"post_attention_layernorm\.", "pre_mlp_layernorm."),
    (r"self_attention\.query_key_value\.", "self_attention.linear_qkv."),
    (r"self_attention\.dense\.", "self_attention.linear_proj."),
    (r"mlp\.dense_h_to_4h\.", "mlp.linear_fc1."),
    (r"mlp\.dense_4h_to_h\.", "mlp.linear_fc2."),
)
"""Pattern -> what Megatron-core calls it, after the prefix is gone."""


def global_name(name: str) -> str:
    """Megatron-core's name of a parameter."""
    name = PREFIX.sub("", name)
    for pattern, ours in NAMES:
        name = re.sub(pattern, ours, name)
    return name


def import_universal(
    source: Path, target: Path, config: RunConfig, weights_only: bool, step: int | None, samples: int
) -> Path:
    """Write the checkpoint `source` of `config`'s model into the folder `target`; returns the new one.

    Raises InputError when files are missing, can't be read, or do not make up that model.
    """
    folders = _folders(source / "zero")
    keys = (WEIGHT,) if weights_only else EVERYTHING
    shapes = {name: _shape(name, _load(folder, WEIGHT).shape, config.model) for name, folder in folders.items()}
    found, wanted = sum(map(math.prod, shapes.values())), total_parameters(config.model)
    if found != wanted:
        raise InputError(
            f"{source}: {len(shapes)} tensors with {found:,} parameters (vocabulary padded), and the model of --config "
            f"has {wanted:,}; give the config of the model that it holds"
        )
    pieces = [
        Piece(f"{key}.{name}", shape, torch.Size([0] * len(shape)), shape, None)
        for key in keys
        for name, shape in shapes.items()
    ]

    def content(index: MetadataIndex) -> Tensor:
        key, _, name = index.fqn.partition(".")
        return _fitted(_load(folders[name], key), shapes[name], folders[name])

    if step is None:
        step = 0 if weights_only else _step(next(iter(folders.values())))
    progress = Progress(step, samples, identity=model_identity(config))
    return publish_alone(target, progress, pieces, content, "convert universal")


def _folders(zero: Path) -> dict[str, Path]:
    """Global name -> folder of a parameter."""
    if not zero.is_dir():
        raise InputError(f"{zero}: no such folder; name a universal checkpoint (DeepSpeed's ds_to_universal makes one)")
    found: dict[str, Path] = {}
    for folder in sorted(path for path in zero.iterdir() if path.is_dir()):
        if folder.name.endswith("_extra_state"):  # Transformer Engine's room for fp8's scales
            continue
        name = global_name(folder.name)
        if name in found:
            raise InputError(f"{folder}: is {name}, as {found[name]} is; an interleaved model can't be imported")
        found[name] = folder
    if EMBEDDING not in found:
        raise InputError(f"{zero}: holds no {EMBEDDING}, and {len(found)} others; is it a Megatron-core GPT?")
    return found


def _load(folder: Path, key: str) -> Tensor:
    """One tensor of a parameter, in fp32."""
    value = _read(folder / f"{FILES[key]}.pt")
    tensor = value.get("param") if isinstance(value, dict) else value
    if not isinstance(tensor, Tensor):
        raise InputError(f"{folder / FILES[key]}.pt: holds no tensor; it is not a universal checkpoint's")
    return tensor.float()


def _read(path: Path) -> Any:
    try:
        return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; with --weights only fp32.pt is needed") from None
    except Exception as error:  # torch raises whatever its zip reader and unpickler do
        raise InputError(f"{path}: can't be read: {str(error).splitlines()[0]}") from None


def _step(folder: Path) -> int:
    """Updates that Adam has made."""
    if not (folder / "step.pt").is_file():
        raise InputError(f"{folder}/step.pt: no such file; say with --step after which step this checkpoint is")
    value = _read(folder / "step.pt")
    return int(value.get("param", 0) if isinstance(value, dict) else value)


def _shape(name: str, shape: torch.Size, model: Model) -> torch.Size:
    """Whole logical shape: the vocabulary padded, a gated MLP's two matrices apart."""
    if name in (EMBEDDING, OUTPUT):
        return torch.Size([max(shape[0], model.padded_vocab_size), *shape[1:]])
    if name.endswith(GATED) and model.gated:
        return torch.Size([2, shape[0] // 2, *shape[1:]])
    return shape


def _fitted(tensor: Tensor, shape: torch.Size, folder: Path) -> Tensor:
    """In the logical shape, rows of padding zero, with a storage of its own."""
    missing = math.prod(shape) - tensor.numel()
    if missing < 0 or (missing and missing % math.prod(shape[1:])):
        raise InputError(f"{folder}: shape {list(tensor.shape)} in one file and {list(shape)} in another")
    return torch.cat([tensor.reshape(-1), tensor.new_zeros(missing)]).view(shape)
