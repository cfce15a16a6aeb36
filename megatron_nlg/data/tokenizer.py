"""The tokenizer of a run: its own, if it has one in its folder, else that of its corpus."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from data_prep.blend import read_blend
from data_prep.files import disk_error, sync
from data_prep.tokenizer import Tokenizer, load_tokenizer
from megatron_nlg.config.base import build, read_yaml
from megatron_nlg.config.classification import run_of
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig

TOKENIZER = "tokenizer"
"""Folder of a run that was imported, and of a classifier."""


def run_tokenizer(config: RunConfig, run: Path) -> Tokenizer:
    """Raises InputError when neither the run's folder nor its config names one."""
    if (run / TOKENIZER).is_dir():
        return load_tokenizer(run / TOKENIZER)
    if config.data.blend is None:
        raise InputError(
            f"{run}: has no {TOKENIZER}/, and data.blend, which names the corpus with its tokenizer, is not set; "
            "set data.blend=…/blend.yaml"
        )
    blend = read_blend(Path(config.data.blend))
    return load_tokenizer(Path(blend.tokenizer.path))


def classifier_tokenizer(config: RunConfig, folder: Path) -> Tokenizer:
    """That of a classifier's folder, else the one it is to be trained with.

    Raises InputError when none is named, when the model has not got its entries, or when the weights were trained with
    another.
    """
    if (folder / TOKENIZER).is_dir():
        return load_tokenizer(folder / TOKENIZER)
    own, loaded = _named(config), _loaded(config)
    tokenizer = own or loaded
    if tokenizer is None:
        raise InputError(
            "data.classification.tokenizer: is not set, and there is no run in checkpoint.load_from to take one from; "
            "set it to a tokenizer's folder or to a blend.yaml"
        )
    if own and loaded and own.identity != loaded.identity:
        raise InputError(
            f"data.classification.tokenizer: is {own.identity}, and the weights of checkpoint.load_from were trained "
            f"with {loaded.identity}; leave it out"
        )
    if tokenizer.vocab_size > config.model.vocab_size:
        raise InputError(
            f"model.vocab_size: {config.model.vocab_size}, and the tokenizer has {tokenizer.vocab_size} entries; "
            f"set model.vocab_size={tokenizer.vocab_size}, or another data.classification.tokenizer"
        )
    return tokenizer


def keep_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Make a tokenizer the run folder's own, whole or not at all."""
    if (folder / TOKENIZER).is_dir():
        return
    partial = folder / f".{TOKENIZER}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        tokenizer.save(partial)
        sync(partial)
        partial.rename(folder / TOKENIZER)
        sync(folder)
    except OSError as error:
        raise disk_error(error, folder / TOKENIZER) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _named(config: RunConfig) -> Tokenizer | None:
    settings = config.data.classification
    if settings is None or settings.tokenizer is None:
        return None
    path = Path(settings.tokenizer)
    if path.suffix in (".yaml", ".yml"):
        path = Path(read_blend(path).tokenizer.path)
    return load_tokenizer(path)


def _loaded(config: RunConfig) -> Tokenizer | None:
    """The tokenizer of the run in checkpoint.load_from, where there is one."""
    run = run_of(Path(config.checkpoint.load_from)) if config.checkpoint.load_from else None
    if run is None:
        return None
    other = build(RunConfig, read_yaml(run / "config.yaml"), str(run / "config.yaml"))
    if not (run / TOKENIZER).is_dir() and other.data.blend is None:
        return None
    return run_tokenizer(other, run)
