"""An encoder with a classifier's head and its tokenizer, by transformers: from a folder, or new and random."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data_prep.files import disk_error, sync
from data_prep.tokenizer import Tokenizer
from data_prep.tokenizer.huggingface import BytePairTokenizer, HuggingFaceTokenizer
from megatron_nlg.analysis.encoder.shape import Shape
from megatron_nlg.config.errors import InputError, MegatronNlgError

MEND = "name a folder that transformers' save_pretrained has written, with the config.json of an encoder"
SPECIAL = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
WEIGHTS = ("*.safetensors", "*.bin")


def new_tokenizer(shape: Shape, own: Tokenizer, texts: Sequence[str]) -> Any:
    """The classifier's own tokenizer, or one of byte pairs learned from `texts`; with [CLS], [SEP] and [PAD]."""
    from tokenizers import Tokenizer as Fast
    from tokenizers.processors import BertProcessing
    from transformers import PreTrainedTokenizerFast

    if shape.vocabulary is not None:
        own = BytePairTokenizer.train(texts, shape.vocabulary)
    if not isinstance(own, HuggingFaceTokenizer):
        raise InputError(
            f"--shape: the classifier's tokenizer, of kind {own.kind}, can't be an encoder's; --vocabulary N"
        )
    fast = Fast.from_str(own.content)
    fast.add_special_tokens(list(SPECIAL.values()))
    ids = fast.get_vocab()
    fast.post_processor = BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return PreTrainedTokenizerFast(tokenizer_object=fast, **SPECIAL)  # type: ignore[no-untyped-call]


def new_encoder(shape: Shape, tokenizer: Any, labels: Sequence[str], max_length: int, dropout: float) -> Any:
    """Random weights, drawn by torch's generator."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden_size,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden_size,
        max_position_embeddings=max_length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id,
        **_labels(labels),
    )
    return BertForSequenceClassification(config)


def read_tokenizer(folder: Path) -> Any:
    """That of a folder. Raises InputError where there is none with a [CLS] token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except Exception as error:  # of many kinds, by library
        raise InputError(f"{folder}: no tokenizer can be read: {_first_line(error)}; {MEND}") from None
    if tokenizer.cls_token_id is None:
        raise InputError(f"{folder}: its tokenizer has no [CLS] token; decoders are trained by `megatron-nlg train`")
    return tokenizer


def read_encoder(folder: Path, labels: Sequence[str]) -> Any:
    """With a folder's weights, or, where it has none, random ones of its config.json's shape; a head for `labels`.

    Raises InputError.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        # Code of the folder's own is never run, and nothing is asked of the network.
        config = AutoConfig.from_pretrained(folder, local_files_only=True, **_labels(labels))
        if not any(list(folder.glob(pattern)) for pattern in WEIGHTS):
            return AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
        return AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, local_files_only=True, dtype=torch.float32
        )
    except Exception as error:  # of many kinds, by library
        raise InputError(f"{folder}: can't be read: {_first_line(error)}; {MEND}") from None


def save_encoder(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write what read_encoder and read_tokenizer read, whole or not at all."""
    from safetensors import SafetensorError

    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        for file in partial.iterdir():
            sync(file)
        partial.rename(folder)
        sync(folder.parent)
    except OSError as error:
        raise disk_error(error, folder) from None
    except SafetensorError as error:  # it wraps the system's errors
        raise MegatronNlgError(f"{folder}: cannot be written: {error}; start the same command again") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _labels(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
