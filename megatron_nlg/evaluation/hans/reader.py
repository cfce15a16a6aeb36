"""HANS (McCoy et al. 2019) in its published formats: tab-separated with a line of names, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shared.files import Record, read_text, tab_separated

HEURISTICS = ("lexical_overlap", "subsequence", "constituent")
LABELS = {"entailment": True, "non-entailment": False}
COLUMNS = ("gold_label", "sentence1", "sentence2", "heuristic", "subcase")


@dataclass(frozen=True)
class Example:
    """A premise, a hypothesis all of whose words it has, and whether it follows."""

    name: str
    """pairID, or its place in the file."""
    premise: str
    hypothesis: str
    entailed: bool
    heuristic: str
    subcase: str


def read_examples(path: Path) -> list[Example]:
    """All of a file: heuristics_evaluation_set.txt, .jsonl, or a .tsv, also as .xz. Raises InputError with the line."""
    inner = path.with_suffix("") if path.suffix == ".xz" else path
    records = _json_lines(path) if inner.suffix == ".jsonl" else tab_separated(path, COLUMNS)
    examples: list[Example] = []
    names: set[str] = set()
    for where, row in records:
        example = _example(where, row, str(len(examples)))
        if example.name in names:
            raise InputError(f"{where}: pairID {example.name!r} comes a second time; make it unique")
        names.add(example.name)
        examples.append(example)
    if not examples:
        raise InputError(f"{path}: holds no example; give HANS's heuristics_evaluation_set")
    return examples


def _json_lines(path: Path) -> Iterator[Record]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: not valid JSON ({error}); mend or delete the line") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}: an object is expected, not {type(row).__name__}; mend or delete the line")
        absent = [column for column in COLUMNS if not isinstance(row.get(column), str)]
        if absent:
            raise InputError(f"{where}: {absent[0]} is no text but {row.get(absent[0])!r}; mend it")
        yield where, row


def _example(where: str, row: dict[str, str], place: str) -> Example:
    for column, known in (("gold_label", tuple(LABELS)), ("heuristic", HEURISTICS)):
        if row[column] not in known:
            raise InputError(f"{where}: {column} is {row[column]!r}; it must be one of {', '.join(known)}")
    for column in ("sentence1", "sentence2", "subcase"):
        if not row[column].strip():
            raise InputError(f"{where}: {column} is empty; mend or delete the line")
    return Example(
        str(row.get("pairID") or place),
        sentence(row["sentence1"]),
        sentence(row["sentence2"]),
        LABELS[row["gold_label"]],
        row["heuristic"],
        row["subcase"],
    )


def sentence(text: str) -> str:
    """As one writes it: the published file has spaces before full stops and commas."""
    text = " ".join(text.split())
    for mark in ".,?!;":
        text = text.replace(f" {mark}", mark)
    return text
