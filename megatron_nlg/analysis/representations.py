"""Activations of every block of a model: the interface that runs of this project and folders of transformers share.

Layer 0 is the embeddings, layer i what block i gives, and the last one that after the final norm, as in transformers'
`hidden_states`: what a head sees. What is read of a text are means over spans of its tokens: all of them, the last, the
first, or those of a part of the text.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.files import replacing
from megatron_nlg.config.errors import InputError

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Of one pass, padding included."""
Pooling = Literal["mean", "last", "first"]
"""Over all tokens of a text, or one of them; of an encoder's, [CLS] is the first and special tokens count too."""
Activation = Literal["none", "tanh", "relu"]
Layers = NDArray[np.float32]
"""[layers, spans, hidden size]"""


@dataclass(frozen=True)
class Input:
    """Token ids of a text, and the spans [begin, end) of them whose means are read."""

    tokens: list[int]
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class Found:
    """Some of the spans of all inputs, which are numbered input by input."""

    spans: list[int]
    values: Tensor
    """[layers, spans, hidden size], fp32, on the CPU."""


@dataclass(frozen=True)
class Linear:
    """One layer of a head."""

    weight: NDArray[np.float32]
    """[outputs, inputs]"""
    bias: NDArray[np.float32]
    """[outputs]"""
    activation: Activation = "none"


@dataclass(frozen=True)
class Head:
    """What a classifier was trained to read the last layer by, at the token that sums a text up."""

    layers: tuple[Linear, ...]
    """First to last; the last one gives the classes."""
    labels: tuple[str, ...]

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """values [texts, hidden size] -> logits [texts, classes]."""
        out = np.asarray(values, np.float64)
        for layer in self.layers:
            out = out @ layer.weight.T.astype(np.float64) + layer.bias
            if layer.activation != "none":
                out = np.tanh(out) if layer.activation == "tanh" else np.maximum(out, 0)
        return out


class Represented(ABC):
    """A model whose blocks can be read."""

    layers: int
    """Blocks and the embeddings."""
    hidden_size: int
    max_length: int
    """Tokens of a text, special ones included."""
    summary: Pooling
    """Where the model itself sums up a text."""
    before: Sequence[int] = ()
    """Special tokens in front of every text."""
    after: Sequence[int] = ()
    is_main: bool = True
    """Whether this is the rank that gets what is found."""
    identity: Mapping[str, Any]
    """Another one for other weights; `step` where they are a run's."""

    def head(self) -> Head | None:
        """Its classifier, on the main rank; None of a model that is none. Collective."""
        return None

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special ones."""

    @abstractmethod
    def stream(self, inputs: Sequence[Input], batch_tokens: int | None = None) -> Iterator[Found]:
        """Activations of a bounded number of inputs at a time, long ones first. Collective: exhaust it on every rank.

        Only the main rank gets any.
        """

    def prepare(
        self,
        text: str,
        pooling: Sequence[Pooling] = (),
        marks: Sequence[tuple[int, int]] = (),
        max_length: int | None = None,
        cut: Literal["end", "start"] = "end",
    ) -> Input | None:
        """A text with a span for each pooling, then one for each mark, a range [begin, end) of its characters.

        Tokens end where marks begin and end: words do not share one. A text of more than `max_length` tokens is cut;
        None where the cut takes a mark away. Raises InputError for a text or a mark without tokens.
        """
        marks = [(_word_begin(text, begin), end) for begin, end in marks]
        edges = sorted({0, len(text), *(edge for mark in marks for edge in mark)})
        pieces = [self.encode(text[a:b]) for a, b in pairwise(edges)]
        starts = np.cumsum([0, *map(len, pieces)]).tolist()
        tokens = [token for piece in pieces for token in piece]
        room = min(max_length or self.max_length, self.max_length) - len(self.before) - len(self.after)
        lost = max(0, len(tokens) - room)
        gone = lost if cut == "start" else 0
        tokens = tokens[gone : gone + room]
        whole = [*self.before, *tokens, *self.after]
        spans = [_span(name, len(whole)) for name in pooling]
        for begin, end in marks:
            first, last = (starts[bisect_left(edges, edge)] - gone for edge in (begin, end))
            if first < 0 or last > len(tokens):
                return None
            if first == last:
                raise InputError(f"{text[begin:end]!r}: has no token; mark some text")
            spans.append((first + len(self.before), last + len(self.before)))
        if not tokens:
            raise InputError(f"{text!r}: the text has no token; remove or mend it")
        return Input(whole, spans)


def _word_begin(text: str, begin: int) -> int:
    """With the space before it: byte-level tokens of words begin with theirs."""
    return begin - 1 if begin and text[begin - 1] == " " and begin < len(text) else begin


def _span(name: Pooling, length: int) -> tuple[int, int]:
    return {"mean": (0, length), "last": (length - 1, length), "first": (0, 1)}[name]


# ---- batches -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Inputs of about one length, and where their spans are."""

    tokens: Tensor
    """[inputs, longest], padded at the right."""
    lengths: Tensor
    """[inputs]"""
    spans: list[int]
    """Numbers of the spans among those of all inputs."""
    places: Tensor
    """[places, (span's place in `spans`, input, column)]: all that the spans cover."""
    counts: Tensor
    """[spans]: tokens of each."""

    def to(self, device: torch.device) -> Batch:
        """On another device."""
        return Batch(
            self.tokens.to(device),
            self.lengths.to(device),
            self.spans,
            self.places.to(device),
            self.counts.to(device),
        )


def batches(inputs: Sequence[Input], batch_tokens: int, multiple: int = 1) -> Iterator[Batch]:
    """All inputs, long ones first, at most `batch_tokens` together; `multiple` divides the padded length."""
    offsets = np.cumsum([0, *(len(each.spans) for each in inputs)]).tolist()
    order = sorted(range(len(inputs)), key=lambda number: -len(inputs[number].tokens))
    while order:
        longest = -(-len(inputs[order[0]].tokens) // multiple) * multiple
        count = max(1, batch_tokens // longest)
        yield _batch([(inputs[number], offsets[number]) for number in order[:count]], longest)
        order = order[count:]


def _batch(some: Sequence[tuple[Input, int]], longest: int) -> Batch:
    spans: list[int] = []
    counts: list[int] = []
    places: list[tuple[int, int, int]] = []
    for row, (each, offset) in enumerate(some):
        for number, (begin, end) in enumerate(each.spans):
            places += [(len(spans), row, column) for column in range(begin, end)]
            counts.append(end - begin)
            spans.append(offset + number)
    return Batch(
        torch.tensor([each.tokens + [0] * (longest - len(each.tokens)) for each, _ in some]),
        torch.tensor([len(each.tokens) for each, _ in some]),
        spans,
        torch.tensor(places, dtype=torch.long).view(-1, 3),
        torch.tensor(counts),
    )


def pool(hidden: Tensor, batch: Batch, first_column: int = 0) -> Tensor:
    """hidden [columns from `first_column` on, inputs, hidden size] -> these columns' part of the spans' means,
    [spans, hidden size], fp32."""
    span, row, column = batch.places.unbind(1)
    column = column - first_column
    own = (column >= 0) & (column < len(hidden))
    sums = hidden.new_zeros(len(batch.spans), hidden.shape[2], dtype=torch.float32)
    sums.index_add_(0, span[own], hidden[column[own], row[own]].float())
    return sums / batch.counts[:, None]


# ---- arrays ------------------------------------------------------------------------------------------------------


def collect(
    model: Represented,
    inputs: Sequence[Input],
    file: Path | None = None,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Layers | None:
    """All activations as [layers, spans, hidden size], in the inputs' order, on the main rank; None on the others.

    With `file`, a .npy that is there when it is whole, only a window of them is in memory; the result is mapped.
    `progress` is told how many spans were added. Collective.
    """
    found = model.stream(inputs, batch_tokens)
    shape = (model.layers, sum(len(each.spans) for each in inputs), model.hidden_size)
    if not model.is_main:
        for _ in found:
            pass
        return None
    if file is None:
        return _fill(np.empty(shape, np.float32), found, progress)
    with replacing(file) as temporary:
        mapped = _mapped(temporary, shape)
        _fill(mapped, found, progress)
        mapped.flush()
    whole: Layers = np.load(file, mmap_mode="r")
    return whole


def _fill(out: Layers, found: Iterable[Found], progress: Callable[[int], None] | None) -> Layers:
    for part in found:
        out[:, part.spans] = part.values.numpy()
        if progress:
            progress(len(part.spans))
    return out


def _mapped(path: Path, shape: tuple[int, ...]) -> Any:
    """A new .npy. Its room is taken at once: a full disk is an error here, and a signal where a mapped page is."""
    mapped = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    with path.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, path.stat().st_size)
    return mapped
