"""Small evaluation sets in the files of their publications, all invented here, and a random run that can read them."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from data_prep.tokenizer import BytePairTokenizer
from megatron_nlg.training.checkpoint.huggingface import import_folder

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
THINGS = ("the red boat", "an old lamp", "two grey cats", "a paper kite", "the last bus")


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_sets(folder: Path, rows: int = 6) -> Path:
    """All nine sets; PiQA, WinoGrande and WiC with files of examples."""
    said = [f"{NAMES[i % 6]} saw {THINGS[i % 5]} and told {NAMES[(i + 1) % 6]} of it in {i}" for i in range(rows)]
    lines(
        folder / "lambada" / "lambada_test.jsonl",
        [{"text": f"{text}. It was {THINGS[i % 5]}"} for i, text in enumerate(said)],
    )
    for number, text in enumerate(said):
        passage = {
            "id": f"high{number}.txt",
            "article": text,
            "questions": ["Who saw it?", f"{NAMES[number % 6]} told  _  ."],
            "options": [list(NAMES[:4]), list(NAMES[2:])],
            "answers": ["A", "BCD"[number % 3]],
        }
        lines(folder / "race" / "test" / "high" / f"{number}.txt", [passage])
    lines(folder / "boolq" / "val.jsonl", [
        {"passage": text, "question": "was it seen", "label": i % 2 == 0, "idx": i} for i, text in enumerate(said)
    ])  # fmt: skip
    for split in ("valid", "train"):
        lines(folder / "piqa" / f"{split}.jsonl", [
            {"goal": f"see {thing} {split}", "sol1": f"go to {name}", "sol2": f"ask {name} and wait for the answer"}
            for thing, name in zip(THINGS, NAMES, strict=False)
        ])  # fmt: skip
        (folder / "piqa" / f"{split}-labels.lst").write_text("0\n1\n1\n0\n1\n")
    lines(folder / "hellaswag" / "hellaswag_val.jsonl", [
        {"ind": i, "activity_label": "Seeing", "ctx_a": text + ".", "ctx_b": "she", "ctx": text, "split": "val",
         "endings": [f"[step] takes {thing} home." for thing in THINGS[:4]], "label": i % 4}
        for i, text in enumerate(said)
    ])  # fmt: skip
    for split in ("dev", "train_s", "train_xl"):
        lines(folder / "winogrande_1.1" / f"{split}.jsonl", [
            {"qID": f"{split}-{i}", "sentence": f"{NAMES[0]} told {NAMES[1]} as _ had seen {thing}.",
             "option1": NAMES[0], "option2": NAMES[1], "answer": "12"[i % 2]}
            for i, thing in enumerate(THINGS)
        ])  # fmt: skip
    lines(folder / "anli_v1.0" / "R2" / "test.jsonl", [
        {"uid": str(i), "context": text, "hypothesis": f"{THINGS[i % 5]} was seen", "label": "enc"[i % 3], "reason": ""}
        for i, text in enumerate(said)
    ])  # fmt: skip
    head = "gold_label\tsentence1_binary_parse\tsentence1\tsentence2\tpairID\theuristic\tsubcase\ttemplate\n"
    labels = ("entailment", "non-entailment")
    body = "".join(
        f'{labels[i % 2]}\t( {text} )\t{text} .\tIt said " {text} .\tex{i}\tsubsequence\tsn_NP/S\ttemp1\n'
        for i, text in enumerate(said)
    )
    (folder / "hans").mkdir(parents=True)
    with lzma.open(folder / "hans" / "heuristics_evaluation_set.txt.xz", "wt") as file:
        file.write(head + body)
    for split in ("val", "train"):
        lines(folder / "wic" / f"{split}.jsonl", [
            {"word": "saw", "sentence1": "They saw it.", "sentence2": f"A saw cuts {thing} {split}.", "idx": i,
             "label": i % 2 == 1, "start1": 5, "end1": 8, "start2": 2, "end2": 5, "version": 1.1}
            for i, thing in enumerate(THINGS)
        ])  # fmt: skip
    return folder


def write_run(folder: Path, positions: int = 128) -> tuple[GPT2LMHeadModel, Any, Path]:
    """A random GPT-2 of transformers, its tokenizer, and the run that it becomes."""
    texts = [
        f"{name} saw {thing}, told it and asked for the answer. Question: True or False?"
        for name in NAMES
        for thing in THINGS
    ]
    tokenizer = BytePairTokenizer.train(texts, 330)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size, n_positions=positions, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=tokenizer.eod, eos_token_id=tokenizer.eod, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder / "source")
    (folder / "source" / "tokenizer.json").write_text(tokenizer.content)
    (folder / "source" / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
        )
    )
    import_folder(folder / "source", folder / "run")
    return model, AutoTokenizer.from_pretrained(folder / "source"), folder / "run"
