"""The tokenizer of a run: its own, if its weights were imported with one, else that of its corpus."""

from __future__ import annotations

from pathlib import Path

from data_prep.blend import read_blend
from data_prep.tokenizer import Tokenizer, load_tokenizer
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig

TOKENIZER = "tokenizer"
"""Folder of a run that was imported."""


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
