"""A GPT-2 of transformers with random weights and a tokenizer of its own, and the run it becomes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from data_prep.tokenizer import BytePairTokenizer
from megatron_nlg.training.checkpoint.huggingface import import_folder

TEXT = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "A river runs from the hills to the sea; what is in it comes along.",
    "def area(width, height): return width * height",
    "Whoever counts the trees of a wood has walked through all of it – é, 世界.",
)


def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.train(TEXT * 3, 400)


def write_model(folder: Path) -> tuple[Path, Path]:
    """Returns the folder for transformers and the run. Weights are so large that draws differ."""
    words = tokenizer()
    config = GPT2Config(
        vocab_size=words.vocab_size,
        n_positions=96,
        n_embd=48,
        n_layer=2,
        n_head=4,
        bos_token_id=words.eod,
        eos_token_id=words.eod,
    )
    model = GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data.copy_(noise + (1 if "ln_" in name and name.endswith("weight") else 0))
    model.save_pretrained(folder / "hf")
    words.save(folder / "words")
    (folder / "hf" / "tokenizer.json").write_text(words.content, encoding="utf-8")
    about = '{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 96, "eos_token": "<|endoftext|>"}'
    (folder / "hf" / "tokenizer_config.json").write_text(about)
    import_folder(folder / "hf", folder / "run")
    return folder / "hf", folder / "run"
