"""Coreference: do two spans mean the same? From GAP's table, or edge probing's JSON lines (OntoNotes)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from megatron_nlg.analysis.probing.example import Example, Mark, ProbingSet, finish
from megatron_nlg.analysis.probing.lines import Row, is_json, table
from megatron_nlg.analysis.probing.spans import Target, targets

TRUTH = {"true": 1, "false": 0, "1": 1, "0": 0}


def from_file(path: Path, limit: int, seed: int) -> ProbingSet:
    """Raises InputError that names the line."""
    found = list(targets(path, spans=2)) if is_json(path) else list(_gap(path))
    classes = sorted({target.label for target in found})
    number = {name: place for place, name in enumerate(classes)}
    examples = [
        Example(text, marks, number[label], " ".join(text[begin:end].lower() for begin, end in marks))
        for text, marks, label in found
    ]
    names = ["not the same" if c == "0" else "the same" if c == "1" else c for c in classes]
    about = f"Whether two mentions of {path.name} mean the same. Spans: the mentions. Control: their words."
    return finish("coreference", names, examples, limit, seed, about, str(path))


def _gap(path: Path) -> Iterator[Target]:
    """GAP (Webster et al. 2018): a pronoun and two names, each with its offset in characters."""
    for row in table(path):
        text = row.text("Text")
        pronoun = _mark(row, text, "Pronoun")
        for name in ("A", "B"):
            label = row.one_of(TRUTH, f"{name}-coref")
            yield Target(text, (pronoun, _mark(row, text, name)), str(label))


def _mark(row: Row, text: str, name: str) -> Mark:
    begin, words = row.offset(f"{name}-offset"), row.text(name)
    if text[begin : begin + len(words)] != words:
        row.refuse(f"{name}-offset", f"{words!r} is not in the text there")
    return begin, begin + len(words)
