"""Small prepared corpora, written by data_prep's own writers, and a process group for tests of one process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from data_prep.blend import Blend, BlendSource, BlendTokenizer, write_blend
from data_prep.files import write_json
from data_prep.indexed import IndexedWriter
from data_prep.tokenizer import CharacterTokenizer

VOCAB = 250  # as in tests/tiny.py


@dataclass(frozen=True)
class Source:
    documents: int
    length: int
    weight: float


TWO = {"docs": Source(200, 60, 0.7), "code": Source(100, 40, 0.3)}
"""Their tokens do not overlap: docs has 0…99, code 100…199."""


def write_corpus(folder: Path, sources: Mapping[str, Source] = TWO, seed: int = 0, first_character: int = 1000) -> Path:
    """Documents of random lengths around `length`, each closed by eod; returns the blend.yaml."""
    tokenizer = CharacterTokenizer("".join(chr(first_character + i) for i in range(VOCAB - 1)))
    tokenizer.save(folder / "tokenizer")
    (folder / "tokens").mkdir(parents=True)
    entries = []
    for number, (name, source) in enumerate(sources.items()):
        draw, count = np.random.default_rng((seed, number)), 0
        with IndexedWriter(folder / "tokens" / name, np.dtype(np.uint16)) as writer:
            for _ in range(source.documents):
                size = int(draw.integers(max(1, source.length // 2), source.length * 3 // 2 + 1))
                text = draw.integers(100 * number, 100 * number + 100, size)
                writer.add(np.append(text, tokenizer.eod))
                count += size + 1
        write_json(folder / "tokens" / f"{name}.json", {"tokenizer_identity": tokenizer.identity})
        entries.append(
            BlendSource(
                name=name,
                tokens=f"tokens/{name}",
                weight=source.weight,
                documents=source.documents,
                token_count=count,
            )
        )
    about = BlendTokenizer(
        path="tokenizer", kind="char", identity=tokenizer.identity, vocab_size=tokenizer.vocab_size, eod=tokenizer.eod
    )
    write_blend(folder / "blend.yaml", Blend(tokenizer=about, sources=tuple(entries)))
    return folder / "blend.yaml"


@contextmanager
def alone() -> Iterator[None]:
    """torch.distributed with this one process, as training has it."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def digest(dataset: Any, samples: int) -> str:
    """Hash of the first samples' tokens, in order."""
    tokens = np.stack([dataset[i]["tokens"].numpy() for i in range(samples)])
    return hashlib.sha256(tokens.tobytes()).hexdigest()
