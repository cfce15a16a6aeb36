"""Labelled texts of a planted rule, and a tokenizer for them."""

from __future__ import annotations

import random
from pathlib import Path

from data_prep.tokenizer import CharacterTokenizer

LETTERS = " abcdefghijklmnopqrstuvwxyz"
WORDS = ("xxx", "zzz")
"""The class is which of these a text holds."""


def planted(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of random words of a to f, one of WORDS among them, with their class."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        words = ["".join(draw.choices("abcdef", k=draw.randint(1, 5))) for _ in range(draw.randint(1, 4))]
        label = draw.randrange(2)
        words.insert(draw.randint(0, len(words)), WORDS[label])
        found.append((" ".join(words), str(label)))
    return found


def write_texts(folder: Path, train: int = 96, valid: int = 37) -> list[str]:
    """train.tsv, valid.tsv and a tokenizer; returns the overrides of tests/tiny.py that train on them."""
    for name, count, seed in (("train", train, 0), ("valid", valid, 1)):
        lines = ["sentence\tlabel", *("\t".join(row) for row in planted(count, seed))]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "tokenizer").mkdir()
    CharacterTokenizer(LETTERS).save(folder / "tokenizer")
    prefix = "data.classification."
    return [
        "task=classification",
        "schedule.train_tokens=0",
        f"{prefix}train={folder / 'train.tsv'}",
        f"{prefix}validation={folder / 'valid.tsv'}",
        f"{prefix}labels=[0, 1]",
        f"{prefix}tokenizer={folder / 'tokenizer'}",
        f"{prefix}max_length=32",
    ]
