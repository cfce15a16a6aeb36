"""Corpora with planted near-duplicates, from a seed: sentences of the Python installation's own documentation.

A document is a run of short excerpts, about 2.95 kB; a fifth of the documents are in planted clusters of an original
and copies that are edited at rates from 0 to 20 % of the words (or have a block appended). The exact Jaccard similarity
of every planted pair, of sets of 5 white-space words in lower case, is recorded. `boilerplate` has templates instead:
60 % of a document's words are its template's, in blocks of 40 words, and a twentieth of the documents are in pairs.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.readers.python_corpus import read_documentation
from data_prep.readers.text import Reject

RATES = [0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.06, 0.10, 0.20]
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z\"'(`])|\n\s*\n")
_CHARACTERS = 2950


class Corpus(NamedTuple):
    """Documents in order, and what is true of them."""

    texts: list[str]
    pairs: dict[tuple[int, int], float]
    """Jaccard similarity of planted pairs, the smaller position first."""


def sentences() -> list[str]:
    """Distinct English sentences of 6 to 60 words."""
    pool: dict[str, None] = {}
    for document in read_documentation("documentation"):
        if isinstance(document, Reject):
            continue
        for sentence in _SENTENCE.split(document.text):
            plain = " ".join(sentence.split())
            letters = sum(c.isalpha() or c == " " for c in plain)
            if 6 <= plain.count(" ") + 1 <= 60 and letters >= 0.85 * len(plain) and plain.isascii():
                pool[plain] = None
    return list(pool)


def grams(text: str, size: int = 5) -> set[int]:
    """Hashes of the white-space word n-grams."""
    words = text.lower().split()
    return {hash(tuple(words[i : i + size])) for i in range(max(1, len(words) - size + 1))}


def similarities(texts: Sequence[str], members: Sequence[int]) -> Iterator[tuple[tuple[int, int], float]]:
    """Every pair of some documents with its exact Jaccard similarity."""
    sets = [grams(texts[i]) for i in members]
    for j in range(len(members)):
        for i in range(j):
            common = len(sets[i] & sets[j])
            yield (members[i], members[j]), common / (len(sets[i]) + len(sets[j]) - common)


class Writer:
    """Draws documents from the sentences."""

    def __init__(self, seed: int):
        self.draw, self.pool = random.Random(seed), sentences()
        self.vocabulary = sorted({word for sentence in self.pool for word in sentence.split() if word.isalpha()})

    def original(self, characters: int = _CHARACTERS) -> str:
        parts: list[str] = []
        wanted, length = characters * self.draw.lognormvariate(-0.1, 0.45), 0
        while length < wanted:
            start = self.draw.randrange(len(self.pool) - 4)
            excerpt = self.pool[start : start + self.draw.randint(1, 4)]
            parts += excerpt
            length += sum(map(len, excerpt)) + len(excerpt)
        return " ".join(parts)

    def copy(self, text: str, rate: float) -> str:
        words, draw = text.split(), self.draw
        if rate and draw.random() < 0.25:
            return " ".join(words + draw.choices(self.vocabulary, k=max(1, round(5 * rate * len(words)))))
        for _ in range(max(1, round(rate * len(words))) if rate else 0):
            at, what = draw.randrange(len(words)), draw.random()
            if what < 0.6:
                words[at] = draw.choice(self.vocabulary)
            elif what < 0.8 and len(words) > 20:
                del words[at]
            else:
                words.insert(at, draw.choice(self.vocabulary))
        return " ".join(words)

    def cluster(self) -> list[str]:
        """An original and one to eight copies."""
        size = min(2 + int(self.draw.expovariate(1.0)), 9)
        base = self.original()
        return [base, *(self.copy(base, self.draw.choice(RATES)) for _ in range(size - 1))]

    def documents(self, count: int) -> Iterator[str]:
        """Documents of which a fifth are planted, cluster after cluster among the others; no truth is kept."""
        written = 0
        while written < count:
            members = self.cluster() if self.draw.random() < 0.1 else [self.original()]
            yield from members[: count - written]
            written += len(members)


def planted(count: int, seed: int = 1234) -> Corpus:
    """Documents of which a fifth are in planted clusters, shuffled."""
    writer = Writer(seed)
    texts: list[str] = []
    groups = []
    while len(texts) < count // 5:
        members = writer.cluster()
        groups.append(range(len(texts), len(texts) + len(members)))
        texts += members
    texts += [writer.original() for _ in range(count - len(texts))]
    return _shuffled(texts, groups, writer.draw)


def boilerplate(count: int, seed: int = 1234, templates: int = 20) -> Corpus:
    """Documents that share 60 % of their words with all others of their template."""
    writer = Writer(seed)
    draw = writer.draw
    forms = [[writer.draw.choices(writer.vocabulary, k=40) for _ in range(6)] for _ in range(templates)]
    texts: list[str] = []
    groups = []
    while len(texts) < count:
        form = draw.choice(forms)
        fill = writer.original(2 * _CHARACTERS).split()[:160]
        words = [word for i, block in enumerate(form) for word in (*block, *fill[27 * i : 27 * i + 27])]
        base = " ".join(words)
        copies = [writer.copy(base, 0.01)] if draw.random() < 0.025 else []
        groups += [range(len(texts), len(texts) + 2)] if copies else []
        texts += [base, *copies]
    return _shuffled(texts, groups, draw)


def _shuffled(texts: list[str], groups: Sequence[range], draw: random.Random) -> Corpus:
    pairs = {pair: value for group in groups for pair, value in similarities(texts, group)}
    order = list(range(len(texts)))
    draw.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    moved = {(place[i], place[j]): value for (i, j), value in pairs.items()}
    return Corpus([texts[i] for i in order], {(min(pair), max(pair)): value for pair, value in moved.items()})


def write_jsonl(path: Path, texts: Sequence[str]) -> None:
    """One object a line: id, text."""
    with path.open("w", encoding="utf-8") as stream:
        for i, text in enumerate(texts):
            stream.write(json.dumps({"id": i, "text": text}) + "\n")
