"""What a probe is asked: spans of a text, and their class."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megatron_nlg.config.errors import InputError

LEAST = 50
"""Examples without which a code says nothing."""

Mark = tuple[int, int]
"""[begin, end) in characters of a text."""


@dataclass(frozen=True)
class Example:
    """A text, its spans whose representations a probe sees side by side, and their class."""

    text: str
    marks: tuple[Mark, ...]
    label: int
    type: str
    """Examples of one type have one random label in the control task."""


@dataclass(frozen=True)
class ProbingSet:
    """Examples of a task, in the order in which they are sent."""

    name: str
    classes: tuple[str, ...]
    examples: list[Example]
    about: str
    """How it was made, in a sentence."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """[examples]"""
        return np.array([example.label for example in self.examples], np.int64)

    @property
    def prior(self) -> float:
        """Compression of the labels by their frequencies alone: log2(classes) over their entropy."""
        shares = np.bincount(self.labels) / len(self.examples)
        return float(np.log2(len(self.classes)) / -(shares * np.log2(shares)).sum())

    @property
    def identity(self) -> str:
        """Hash of all that the probes depend on."""
        digest = hashlib.sha256(repr((self.name, self.classes)).encode())
        for example in self.examples:
            digest.update(repr(example).encode())
        return digest.hexdigest()[:16]


def of_two(first: str, second: str, label: int, type: str, inside: Mark | None = None) -> Example:
    """Two texts as two lines, each a span; `inside`, in characters of the second, is read in its place.

    In a causal model the second's representations depend on the first, and not the other way round.
    """
    begin = len(first) + 1
    low, high = inside or (0, len(second))
    return Example(f"{first}\n{second}", ((0, len(first)), (begin + low, begin + high)), label, type)


def finish(name: str, classes: Sequence[str], examples: Sequence[Example], limit: int, seed: int, about: str,
           source: str) -> ProbingSet:  # fmt: skip
    """At most `limit` examples in random order, each once; classes without examples are left out.

    Raises InputError that names `source` where there are too few examples, or all are of one class.
    """
    once = list(dict.fromkeys(examples))
    order = np.random.default_rng([seed, len(once)]).permutation(len(once))[:limit]
    drawn = [once[i] for i in order]
    seen = sorted({example.label for example in drawn})
    if len(drawn) < LEAST:
        raise InputError(f"{source}: gives {len(drawn)} examples of {name}; a probe needs {LEAST}, name a larger one")
    if len(seen) < 2:
        raise InputError(f"{source}: all examples of {name} are {classes[seen[0]]!r}; a probe needs two classes")
    number = {label: place for place, label in enumerate(seen)}
    drawn = [replace(example, label=number[example.label]) for example in drawn]
    return ProbingSet(name, tuple(classes[label] for label in seen), drawn, about)


def quantile_bins(values: ArrayLike, bins: int) -> tuple[NDArray[np.int64], list[str]]:
    """Bins that hold about as many values each, numbers that are equal together, and their names `low to high`."""
    known = np.asarray(values, np.float64)
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="higher"))
    edges = edges[edges > known.min()]
    ends = [known.min(), *edges, known.max()]
    names = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(ends)]
    return np.searchsorted(edges, known, side="right"), names


def evenly(examples: Sequence[Example], limit: int) -> list[Example]:
    """As many of each class as the rarest ones allow, at most `limit`, the first ones of each."""
    count = Counter(example.label for example in examples)
    room = dict.fromkeys(count, 0)
    left = limit
    for place, label in enumerate(sorted(count, key=lambda label: count[label])):
        room[label] = min(count[label], left // (len(count) - place))
        left -= room[label]
    kept = []
    for example in examples:
        if room[example.label]:
            room[example.label] -= 1
            kept.append(example)
    return kept
