"""Labelled spans in JSON lines: edge probing's format (words), or characters.

Edge probing (Tenney et al. 2019) has `{"text": …, "targets": [{"span1": [0, 2], "span2": [5, 6], "label": "1"}]}` with
spans [begin, end) in words that spaces separate; `{"text": …, "spans": [[0, 5], [17, 20]], "label": …}` counts
characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from megatron_nlg.analysis.probing.example import Mark
from megatron_nlg.analysis.probing.lines import Row, objects
from megatron_nlg.config.errors import InputError


class Target(NamedTuple):
    """Spans of a text with their class."""

    text: str
    spans: tuple[Mark, ...]
    label: str


def joined(words: Sequence[str]) -> tuple[str, list[Mark]]:
    """Words with single spaces between them, and where each stands."""
    marks, begin = [], 0
    for word in words:
        marks.append((begin, begin + len(word)))
        begin += len(word) + 1
    return " ".join(words), marks


def targets(path: Path, spans: int) -> Iterator[Target]:
    """Targets of a file, each with so many spans. Raises InputError with the line."""
    for row in objects(path):
        text = row.text("text")
        if row.has("targets"):
            words, marks = joined(text.split())
            for target in _list(row, "targets"):
                if not isinstance(target, dict) or "label" not in target:
                    row.refuse("targets", "objects with span1 and label are expected")
                places = [_span(row, target.get(f"span{i + 1}"), len(marks)) for i in range(spans)]
                yield Target(words, tuple((marks[b][0], marks[e - 1][1]) for b, e in places), _label(row, target))
        else:
            found = _list(row, "spans")
            if len(found) != spans:
                row.refuse("spans", f"{spans} spans [begin, end) are expected")
            yield Target(text, tuple(_span(row, span, len(text)) for span in found), _label(row, row.fields))


def _list(row: Row, name: str) -> list[Any]:
    value = row.fields.get(name)
    if not isinstance(value, list):
        raise InputError(f"{row.where}: has no list of {name}; give the file in a documented format")
    return value


def _span(row: Row, value: Any, length: int) -> Mark:
    whole = isinstance(value, list) and len(value) == 2 and all(type(edge) is int for edge in value)
    if not whole or not 0 <= value[0] < value[1] <= length:
        raise InputError(
            f"{row.where}: span {json.dumps(value)[:40]} is no [begin, end) within 0 to {length}; mend the line"
        )
    return value[0], value[1]


def _label(row: Row, fields: dict[str, Any]) -> str:
    value = fields.get("label")
    if isinstance(value, bool | int):
        return str(int(value))
    if not isinstance(value, str) or not value:
        raise InputError(f"{row.where}: label is {value!r}; a text or a whole number is expected; mend the line")
    return value
