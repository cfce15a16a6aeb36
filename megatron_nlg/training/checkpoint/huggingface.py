"""Folders of Hugging Face's transformers to runs of this project and back, tensor by tensor."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.metadata import MetadataIndex

from data_prep.files import make_folder, read_json, replacing, sync, write_json, write_text
from data_prep.tokenizer import Tokenizer
from data_prep.tokenizer.base import EOD
from data_prep.tokenizer.huggingface import BytePairTokenizer, HuggingFaceTokenizer
from megatron_nlg.config.base import build, read_yaml
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import Model, RunConfig
from megatron_nlg.data.tokenizer import TOKENIZER, run_tokenizer
from megatron_nlg.model.huggingface import (
    IGNORED,
    PREFIX,
    Name,
    config_of,
    model_of,
    names,
    their_shape,
    to_ours,
    to_theirs,
)
from megatron_nlg.model.naming import CLASSIFIER, EMBEDDING
from megatron_nlg.training.checkpoint.format import (
    WEIGHT,
    Progress,
    locate,
    model_identity,
    problems_of,
    read_progress,
    steps_in,
)
from megatron_nlg.training.checkpoint.publish import publish_alone
from megatron_nlg.training.checkpoint.reader import Source
from megatron_nlg.training.checkpoint.state import Piece

CONFIG, INDEX, SAFETENSORS, BIN = "config.json", "{}.index.json", "model.safetensors", "pytorch_model.bin"
MEND = "name a folder that transformers' save_pretrained has written"


# ---- from transformers -------------------------------------------------------------------------------------------


class Weights:
    """The tensors of a folder, read one at a time: safetensors, else torch's files with weights only."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self._stack = folder, stack
        self._files: dict[str, Any] = {}
        form = next((form for form in (SAFETENSORS, BIN) if self._exists(form)), None)
        if form is None:
            raise InputError(f"{folder}: holds no {SAFETENSORS} and no {BIN}; {MEND}")
        if (folder / INDEX.format(form)).is_file():
            index = read_json(folder / INDEX.format(form), MEND)
            where = {str(name): str(file) for name, file in index.get("weight_map", {}).items()}
        else:
            where = dict.fromkeys(self._names(form), form)
        self.where = {name.removeprefix(PREFIX): (file, name) for name, file in where.items()}
        """Name without `transformer.` -> (file, name in it)."""

    def _exists(self, form: str) -> bool:
        return (self.folder / form).is_file() or (self.folder / INDEX.format(form)).is_file()

    def __getitem__(self, name: str) -> Tensor:
        """In fp32."""
        file, full = self.where[name]
        opened = self._open(file)
        tensor = opened[full] if isinstance(opened, dict) else opened.get_tensor(full)
        return torch.as_tensor(tensor).float()

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading it."""
        file, full = self.where[name]
        opened = self._open(file)
        if isinstance(opened, dict):
            return tuple(getattr(opened.get(full), "shape", ()))
        return tuple(opened.get_slice(full).get_shape())

    def _names(self, file: str) -> list[str]:
        return list(self._open(file).keys())

    def _open(self, file: str) -> Any:
        if file not in self._files:
            path = self.folder / file
            try:
                if file.endswith(".safetensors"):
                    self._files[file] = self._stack.enter_context(safe_open(path, framework="pt"))
                else:
                    self._files[file] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
            except FileNotFoundError:
                raise InputError(f"{path}: no such file, and the index names it; copy all of the folder") from None
            except Exception as error:  # of many kinds, by library
                raise InputError(f"{path}: can't be read: {str(error).splitlines()[0]}; copy it again") from None
        return self._files[file]


def import_folder(source: Path, run: Path) -> Path:
    """Make a run folder of a transformers GPT-2: config, tokenizer and a checkpoint of weights; returns the checkpoint.

    Raises InputError for a model of another kind, and naming tensors that are missing, unknown or of another shape.
    """
    config = _run_config(read_json(source / CONFIG, MEND), str(source / CONFIG))
    _check_target(run)
    with ExitStack() as stack:
        weights = Weights(source, stack)
        _check(weights, config.model)
        make_folder(run)
        tokenizer = _tokenizer(source, run)
        write_text(run / "config.yaml", to_yaml(config))  # the checkpoint comes last: with it the run is whole
        by_key = {f"{WEIGHT}.{name.ours}": name for name in names(config.model)}

        def content(index: MetadataIndex) -> Tensor:
            name = by_key[index.fqn]
            return to_ours(name, weights[name.theirs], config.model)

        pieces = [_whole_piece(key, _our_shape(name, config.model)) for key, name in by_key.items()]
        identity = model_identity(config) | ({"tokenizer": tokenizer.identity} if tokenizer else {})
        return publish_alone(run / "checkpoints", Progress(identity=identity), pieces, content, "convert from-hf")


def _check_target(run: Path) -> None:
    """A new folder, or what an import that was ended has left: never a run that has been trained or imported."""
    left = {"config.yaml", TOKENIZER, "checkpoints"}
    there = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if there - left or steps_in(run / "checkpoints"):
        raise InputError(f"{run}: something is there already; choose another folder")


def _run_config(config: Mapping[str, Any], source: str) -> RunConfig:
    """A run of that model; what training would need is for the user to say."""
    tree = {
        "model": model_of(config, source),
        "precision": "fp32",
        "batch": {"global": 1},
        "optimizer": {"lr": 1e-4},
        "schedule": {"train_tokens": config["n_positions"]},
    }
    return build(RunConfig, tree, source)


def _whole_piece(key: str, shape: torch.Size, tensor: Tensor | None = None) -> Piece:
    return Piece(key, shape, torch.Size([0] * len(shape)), shape, tensor)


def _our_shape(name: Name, model: Model) -> torch.Size:
    """Whole shape of a tensor as Megatron-core keeps it."""
    shape = their_shape(name, model)
    if name.ours == EMBEDDING:
        return torch.Size([model.padded_vocab_size, model.hidden_size])
    return torch.Size(reversed(shape) if name.is_matrix else shape)


def _check(weights: Weights, model: Model) -> None:
    """All tensors are there, in their shapes, and no other."""
    wanted = {name.theirs: their_shape(name, model) for name in names(model)}
    problems = [f"{name} is missing" for name in wanted if name not in weights.where]
    problems += [f"{name} is not GPT-2's" for name in weights.where if name not in wanted and not IGNORED.search(name)]
    for name, shape in wanted.items():
        if name in weights.where and (found := weights.shape(name)) != shape:
            problems.append(f"{name} is {list(found)}, and {CONFIG} asks for {list(shape)}")
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise InputError(f"{weights.folder}: {shown}")


def _tokenizer(source: Path, run: Path) -> Tokenizer | None:
    """The folder's tokenizer, put into the run folder; None, with a line that says so, when it has none."""
    if (source / "tokenizer.json").is_file():
        text = (source / "tokenizer.json").read_text(encoding="utf-8")
        tokenizer: Tokenizer = HuggingFaceTokenizer(text, str(source / "tokenizer.json"), _end_of_text(source))
    elif (source / "vocab.json").is_file() and (source / "merges.txt").is_file():
        tokenizer = BytePairTokenizer.from_gpt2(source / "vocab.json", source / "merges.txt")
    else:
        print(f"{source}: has no tokenizer.json, nor vocab.json and merges.txt: nor has the run", file=sys.stderr)
        return None
    tokenizer.save(run / TOKENIZER)
    return tokenizer


def _end_of_text(source: Path) -> str:
    """The token that ends a document, as the folder names it."""
    path = source / "tokenizer_config.json"
    token = read_json(path, MEND).get("eos_token", EOD) if path.is_file() else EOD
    return str(token["content"] if isinstance(token, dict) else token)


# ---- to transformers ---------------------------------------------------------------------------------------------


def export_folder(path: Path, target: Path, shard_bytes: int) -> Path:
    """Write the newest checkpoint of a run as a folder of transformers' GPT-2; returns it.

    One shard of weights is held at a time. Raises InputError for a model that GPT-2 can't be, a damaged checkpoint, or
    a folder that is there already.
    """
    folder = locate(path)[0]
    if problems := problems_of(folder):
        raise InputError(f"{folder} is damaged: {'; '.join(problems)}; name another step_…")
    if target.exists():
        raise InputError(f"{target}: is there already; choose another folder")
    model = _model(read_progress(folder), folder)
    tokenizer = _tokenizer_of(folder)
    config = config_of(model, tokenizer.eod if tokenizer else None, str(folder))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    make_folder(partial)
    try:
        source = Source(folder)
        if any(name.startswith(CLASSIFIER) for name in source.parameters()):
            print(f"{folder}: is a classifier's: its head ({CLASSIFIER}*) is left out", file=sys.stderr)
        _write_shards(source, model, partial, shard_bytes)
        _write_tokenizer(tokenizer, partial, model)
        write_json(partial / CONFIG, config)
        sync(partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _model(progress: Progress, folder: Path) -> Model:
    tree = {key.removeprefix("model."): v for key, v in progress.identity.items() if key.startswith("model.")}
    if not tree:
        raise InputError(f"{folder}: does not say of which model it is; only checkpoints of this project do")
    return build(Model, tree, str(folder))


def _tokenizer_of(checkpoint: Path) -> Tokenizer | None:
    """The tokenizer of the run that a checkpoint lies in."""
    run = checkpoint.parent.parent
    if not (run / "config.yaml").is_file():
        return None
    config = build(RunConfig, read_yaml(run / "config.yaml"), str(run / "config.yaml"))
    return run_tokenizer(config, run) if config.data.blend or (run / TOKENIZER).is_dir() else None


def _write_shards(source: Source, model: Model, folder: Path, shard_bytes: int) -> None:
    """model.safetensors, or as many of model-00001-of-… as keep below `shard_bytes`, and their index."""
    shards = list(_shards(model, shard_bytes))
    where: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, 1):
        file = SAFETENSORS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {}
        for name in shard:
            ours = torch.empty(_our_shape(name, model))
            source.read([_whole_piece(f"{WEIGHT}.{name.ours}", ours.shape, ours)])
            tensors[PREFIX + name.theirs] = to_theirs(name, ours, model)
        with replacing(folder / file) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        write_json(folder / INDEX.format(SAFETENSORS), {"metadata": {"total_size": total}, "weight_map": where})


def _shards(model: Model, shard_bytes: int) -> Iterator[list[Name]]:
    shard, size = list[Name](), 0
    for name in names(model):
        own = 4 * math.prod(their_shape(name, model))
        if shard and size + own > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += own
    yield shard


def _write_tokenizer(tokenizer: Tokenizer | None, folder: Path, model: Model) -> None:
    if not isinstance(tokenizer, HuggingFaceTokenizer):
        what = "the run has no tokenizer" if tokenizer is None else f"a tokenizer of kind {tokenizer.kind} has no file"
        print(f"{what} that transformers read: only weights and config are written", file=sys.stderr)
        return
    write_text(folder / "tokenizer.json", tokenizer.content)
    end = tokenizer.decode([tokenizer.eod])
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.sequence_length}
    write_json(folder / "tokenizer_config.json", about | dict.fromkeys(("eos_token", "bos_token", "unk_token"), end))
