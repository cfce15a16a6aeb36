"""Labelled texts as samples: tokens padded at the right, the class and the loss mask at the last token.

With them the mean loss per token that counts is the mean per example, so that the engine trains a classifier as it
pre-trains. Sample i is a pure function of (seed, examples): pass i // n over the n examples, in an order of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.files import fingerprint
from data_prep.tokenizer import Tokenizer
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import Classification, RunConfig
from megatron_nlg.data.labelled import Texts, read_sets
from megatron_nlg.data.tokenizer import classifier_tokenizer, keep_tokenizer

QUANTUM = 8
"""Batches are padded to a multiple of this, for kernels' sake."""


@dataclass(frozen=True)
class EncodedTexts:
    """Tokens of texts, cut to at most max_length."""

    ids: NDArray[np.int32]
    """All tokens, text after text."""
    offsets: NDArray[np.int64]
    """Text i is `ids[offsets[i]:offsets[i + 1]]`; [texts + 1]."""
    classes: NDArray[np.int64]
    """[texts]"""
    truncated: int
    """Texts that were longer."""

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.offsets)

    @property
    def identity(self) -> str:
        """Another one for other texts, classes, or another order."""
        return fingerprint([array.tobytes().hex() for array in (self.ids, self.offsets, self.classes)])[:16]


@dataclass(frozen=True)
class ExampleSets:
    """All that ranks need to know of a run's labelled texts."""

    train: EncodedTexts
    valid: EncodedTexts
    identity: dict[str, Any]
    """Setting -> value of all that the samples depend on."""
    eod: int


class Examples:
    """Sample i: a dict with tokens, labels (int64) and loss_mask (float32), each [max_length].

    With `seed` the texts come again and again, each time in another order; without it once, in their own, and what
    comes after the last is empty and masked.
    """

    def __init__(self, texts: EncodedTexts, max_length: int, eod: int, multiple: int = 1, seed: int | None = None):
        self.texts, self.max_length, self.eod, self.seed = texts, max_length, eod, seed
        self.multiple = lcm(QUANTUM, multiple)
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = torch.full((self.max_length,), self.eod)
        labels, mask = torch.zeros(self.max_length, dtype=torch.long), torch.zeros(self.max_length)
        number = self.number(index)
        if number is not None:
            begin, end = self.texts.offsets[number : number + 2].tolist()
            tokens[: end - begin] = torch.from_numpy(self.texts.ids[begin:end])
            labels[end - begin - 1] = max(0, int(self.texts.classes[number]))  # a text without one has any
            mask[end - begin - 1] = 1.0
        return {"tokens": tokens, "labels": labels, "loss_mask": mask}

    def number(self, index: int) -> int | None:
        """The text that sample `index` is, or None after the last."""
        if self.seed is None:
            return index if index < len(self) else None
        epoch, place = divmod(index, len(self))
        return int(self._order(epoch)[place])

    def padded_length(self, first: int, count: int) -> int:
        """What the samples of a step are padded to: the longest of them, rounded up."""
        numbers = [n for n in map(self.number, range(first, first + count)) if n is not None]
        longest = int(self.texts.lengths[numbers].max()) if numbers else 1
        return min(-(-longest // self.multiple) * self.multiple, self.max_length)

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        assert self.seed is not None
        return np.random.default_rng((self.seed, 1, epoch)).permutation(len(self))


def encode(texts: Texts, tokenizer: Tokenizer, settings: Classification) -> EncodedTexts:
    """Tokens of texts, what is too much cut off where data.classification.cut says. Raises InputError for none."""
    import pyarrow as pa  # only here: pre-training, and GPU benchmarks on bare machines, do without it

    found = tokenizer.encode_batch(pa.array(texts.texts, pa.large_string()))
    lengths = np.diff(found.offsets)
    if empty := np.flatnonzero(lengths == 0).tolist():
        raise InputError(f"{texts.places[empty[0]]}: the text has no token; remove or mend the line")
    kept = np.minimum(lengths, settings.max_length)
    begins = found.offsets[:-1] + (lengths - kept if settings.cut == "start" else 0)
    parts = [found.ids[a : a + n] for a, n in zip(begins.tolist(), kept.tolist(), strict=True)]
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    classes = np.asarray(texts.classes, np.int64)
    return EncodedTexts(np.concatenate(parts).astype(np.int32), offsets, classes, int((lengths > kept).sum()))


def prepare_examples(config: RunConfig, run_folder: Path) -> ExampleSets:
    """Read and encode a run's labelled texts. Raises InputError for files or a tokenizer that can't be used."""
    settings = config.data.classification
    assert settings
    tokenizer = classifier_tokenizer(config, run_folder)
    keep_tokenizer(tokenizer, run_folder)
    train, valid = (encode(texts, tokenizer, settings) for texts in read_sets(config))
    identity = {
        "task": config.task,
        "seed": config.seed,
        "batch.global": config.batch.global_,
        "tokenizer": tokenizer.identity,
        **{
            f"data.classification.{key}": value
            for key, value in settings.model_dump(mode="json").items()
            if key not in ("train", "validation", "tokenizer")
        },
        "training examples": train.identity,
        "validation examples": valid.identity,
    }
    return ExampleSets(train, valid, identity, tokenizer.eod)
