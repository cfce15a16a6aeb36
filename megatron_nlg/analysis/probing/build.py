"""A collection made here, from documents or from rows that hold a query and its passage, as MS MARCO's files.

Queries of documents are their headings (the passages below are relevant), or the first sentence of a passage, which is
taken out of it (inverse cloze task, Lee et al. 2019), or some rare terms of a passage in random order (simulated search
for known items, Azzopardi et al. 2007).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.files import make_folder, write_text
from megatron_nlg.analysis.probing.collection import Collection
from megatron_nlg.analysis.probing.lines import is_json, lines, named_rows
from megatron_nlg.analysis.probing.terms import count, terms
from megatron_nlg.config.errors import InputError

HEADING = re.compile(r"^(?:#{1,6}\s+(.+?)\s*#*|\s*=+\s*([^=].*?)\s*=+\s*)$")
"""Of Markdown, or of WikiText."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
KNOWN_TERMS = 4
SHORTEST = 10
"""Words of a passage."""


class Section(NamedTuple):
    """Paragraphs under a heading, which may be empty."""

    heading: str
    paragraphs: list[str]


# ---- rows ------------------------------------------------------------------------------------------------------------


def from_rows(path: Path, query: str, passage: str, relevant: str | None) -> Collection:
    """Queries and passages of a TSV with a head or JSON lines; `relevant` is COLUMN=VALUE, else all rows are.

    Raises InputError with the line.
    """
    column, _, wanted = (relevant or "").partition("=")
    if relevant and not wanted:
        raise InputError(f"--relevant {relevant}: COLUMN=VALUE is expected, such as label=entailment")
    found = Collection()
    queries: dict[str, int] = {}
    passages: dict[str, int] = {}
    for row in named_rows(path):
        asked, text = (_flat(row.text(name)) for name in (query, passage))
        grade = int(str(row.text(column)) == wanted) if column else 1
        found.judge(queries.setdefault(asked, len(queries)), passages.setdefault(text, len(passages)), grade)
    found.queries, found.passages = list(queries), list(passages)
    return found


# ---- documents -------------------------------------------------------------------------------------------------------


def from_documents(paths: Sequence[Path], kind: str, words: int, limit: int, seed: int) -> Collection:
    """Passages of about so many words from text (`.txt`, `.md`) or JSON lines with `text` and maybe `title`.

    `limit` is the number of queries of the kinds first and known, whose passages are drawn at random.
    """
    found = Collection()
    headings: dict[str, int] = {}
    for path in paths:
        for section in _sections(path):
            first = len(found.passages)
            found.passages += passages_of(section.paragraphs, words)
            if kind == "headings" and section.heading and len(found.passages) > first:
                number = headings.setdefault(section.heading, len(headings))
                for passage in range(first, len(found.passages)):
                    found.judge(number, passage, 1)
    if kind == "headings":
        found.queries = list(headings)
    else:
        make: Callable[[Collection, int, np.random.Generator], str] = {"first": _first, "known": _known(found)}[kind]
        draw = np.random.default_rng(seed)
        for passage in sorted(draw.permutation(len(found.passages))[:limit].tolist()):
            if text := make(found, passage, draw):
                found.judge(len(found.queries), passage, 1)
                found.queries.append(text)
    return found


def passages_of(paragraphs: Sequence[str], words: int) -> list[str]:
    """Paragraphs put together or cut at the ends of sentences, of at most so many words unless a sentence is longer."""
    found: list[list[str]] = [[]]
    for paragraph in paragraphs:
        for sentence in SENTENCE_END.split(_flat(paragraph)):
            if found[-1] and sum(len(part.split()) for part in found[-1]) + len(sentence.split()) > words:
                found.append([])
            found[-1].append(sentence)
    return [text for text in (" ".join(part) for part in found) if len(text.split()) >= SHORTEST]


def _sections(path: Path) -> Iterator[Section]:
    if is_json(path):
        for row in named_rows(path):
            yield Section(_flat(row.text("title")) if row.fields.get("title") else "", row.text("text").split("\n\n"))
        return
    heading, paragraphs = "", [""]
    for _, line in (*lines(path), ("", "# end")):
        if match := HEADING.match(line):
            yield Section(heading, [text for text in paragraphs if text])
            heading, paragraphs = _flat(match[1] or match[2]), [""]
        elif line.strip():
            paragraphs[-1] += f" {line}"
        else:
            paragraphs.append("")


def _first(found: Collection, passage: int, draw: np.random.Generator) -> str:
    """The first sentence, taken out of the passage; nothing where too little would be left."""
    first, *rest = SENTENCE_END.split(found.passages[passage], maxsplit=1)
    if not rest or len(rest[0].split()) < SHORTEST or len(first.split()) < 3:
        return ""
    found.passages[passage] = rest[0]
    return first


def _known(found: Collection) -> Callable[[Collection, int, np.random.Generator], str]:
    counts = count(found.passages)
    idf = np.log(max(1, len(found.passages)) / np.maximum(counts.document_frequency, 1))

    def query(found: Collection, passage: int, draw: np.random.Generator) -> str:
        own = [*dict.fromkeys(terms(found.passages[passage]))]
        weights = np.array([idf[counts.numbers[term]] for term in own])
        if np.count_nonzero(weights) < KNOWN_TERMS:
            return ""
        return " ".join(draw.choice(own, KNOWN_TERMS, replace=False, p=weights / weights.sum()))

    return query


# ---- files -----------------------------------------------------------------------------------------------------------


def write(found: Collection, folder: Path) -> None:
    """collection.tsv, queries.tsv and qrels.tsv, ids from 0. Raises InputError for a collection without queries."""
    if not found.queries or not found.passages:
        raise InputError(
            f"the files give {len(found.passages)} passages and {len(found.queries)} queries; name others, or choose "
            "another --queries"
        )
    make_folder(folder)
    judged = sorted((query, passage, grade) for query, some in found.judged.items() for passage, grade in some.items())
    write_text(folder / "queries.tsv", _numbered(found.queries))
    write_text(folder / "qrels.tsv", "".join(f"{q}\t0\t{p}\t{grade}\n" for q, p, grade in judged))
    write_text(folder / "collection.tsv", _numbered(found.passages))


def _numbered(texts: Sequence[str]) -> str:
    return "".join(f"{number}\t{text}\n" for number, text in enumerate(texts))


def _flat(text: str) -> str:
    return " ".join(text.split())
