"""Sets of sentence pairs: semantic similarity (STS) and fact checking (FEVER)."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.analysis.probing.collection import cut
from megatron_nlg.analysis.probing.example import Example, ProbingSet, finish, of_two
from megatron_nlg.analysis.probing.lines import Row, lines, named_rows, objects
from megatron_nlg.config.errors import InputError

TOP = 5
"""STS scores are from 0 to 5."""
STS = ("genre", "file", "year", "number", "score", "sentence1", "sentence2")
"""Columns of the STS benchmark's own files, which have no head."""
VERDICTS = {"supports": 0, "refutes": 1, "not enough info": 2}


def similarity(path: Path, limit: int, seed: int) -> ProbingSet:
    """STS-B as GLUE has it (sentence1, sentence2, score, under a head), as JSON lines, or with its own seven columns.

    Scores from 0 to 5 are in five bins of equal width. Raises InputError that names the line.
    """
    _, first = next(lines(path), ("", ""))
    headless = first.count("\t") >= len(STS) - 1 and "sentence1" not in first
    examples = []
    for row in _cut_columns(path) if headless else named_rows(path):
        score = row.number("score", "label", "similarity")
        if not 0 <= score <= TOP:
            row.refuse(next(n for n in ("score", "label", "similarity") if row.has(n)), f"0 to {TOP} is expected")
        pair = row.text("sentence1"), row.text("sentence2")
        examples.append(of_two(*pair, min(TOP - 1, int(score)), "\n".join(pair)))
    names = [f"{low} to {low + 1}" for low in range(TOP)]
    about = (
        f"Similarity of two sentences of {path.name} in {TOP} bins of equal width. Spans: the sentences. Control: the "
        "pair."
    )
    return finish("similarity", names, examples, limit, seed, about, str(path))


def _cut_columns(path: Path) -> list[Row]:
    """Seven columns; some rows have sources after them."""
    rows = []
    for where, line in lines(path):
        cells = line.split("\t")[: len(STS)]
        if line and len(cells) < len(STS):
            raise InputError(f"{where}: has {len(cells)} columns, not {len(STS)}; mend the line")
        if line:
            rows.append(Row(where, dict(zip(STS, cells, strict=True))))
    return rows


def facts(path: Path, limit: int, seed: int, words: int) -> ProbingSet:
    """FEVER's JSON lines: claim, label, and the evidence where it is a text (or a list of them), cut to `words`.

    The published files name evidence by pages only: then the claim stands alone. Raises InputError with the line.
    """
    examples: list[Example] = []
    kinds: dict[bool, str] = {}
    for row in objects(path):
        claim, label = row.text("claim"), row.one_of(VERDICTS, "label")
        evidence = cut(_evidence(row), words)
        kinds.setdefault(bool(evidence), row.where)
        if evidence:
            examples.append(of_two(evidence, claim, label, claim))
        else:
            examples.append(Example(claim, ((0, len(claim)),), label, claim))
    if len(kinds) == 2:
        raise InputError(f"{kinds[False]}: has no text as evidence, and {kinds[True]} has; give it to all, or to none")
    alone = False in kinds
    about = (
        f"Verdict on a claim of {path.name}"
        + (", the claim alone. Span: the claim." if alone else ". Spans: the evidence, the claim.")
        + " Control: the claim."
    )
    return finish("facts", [name.upper() for name in VERDICTS], examples, limit, seed, about, str(path))


def _evidence(row: Row) -> str:
    value = row.fields.get("evidence")
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return " ".join(value)
    return ""
