"""Small models with tokenizers, as folders: transformers' GPT-2 and the run that it becomes, and a BERT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from data_prep.tokenizer import BytePairTokenizer
from megatron_nlg.training.checkpoint.huggingface import import_folder
from tests.megatron_nlg.training.checkpoint.test_huggingface import random_model

TEXTS = ["a bad film", "good", "an odd but good and long film", "not good", "bad bad bad film", "a film"]


def write_gpt2(folder: Path) -> Any:
    """`gpt2` of transformers and `run`, the same imported; returns the model."""
    model = random_model("tall", folder / "gpt2")
    BytePairTokenizer.train([" ".join(TEXTS)] * 3, 280).save(folder / "gpt2")
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32, "eos_token": "<|endoftext|>"}
    (folder / "gpt2" / "tokenizer_config.json").write_text(json.dumps(about))
    import_folder(folder / "gpt2", folder / "run")
    return model


def write_bert(folder: Path, layers: int = 3) -> Any:
    """`bert` of transformers, of words; returns the model."""
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in TEXTS for word in text.split()})]
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(entries)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=24, **names).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 24}
    model = BertModel(BertConfig(vocab_size=len(entries), num_hidden_layers=layers, **sizes)).eval()
    model.save_pretrained(folder / "bert")
    return model
