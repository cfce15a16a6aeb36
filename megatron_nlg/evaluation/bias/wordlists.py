"""Word lists: those packaged here, each with its source in its file, and occupations in debiaswe's published layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shared.files import read_text


@cache
def packaged(name: str) -> dict[str, Any]:
    """One of words/*.json."""
    text = resources.files(__package__).joinpath("words", f"{name}.json").read_text(encoding="utf-8")
    value: dict[str, Any] = json.loads(text)
    return value


@dataclass(frozen=True)
class Occupation:
    """A title, and where people have placed it between she (-1) and he (1), None where nobody was asked."""

    name: str
    definitional: float = 0.0
    stereotypical: float | None = None


def packaged_occupations() -> list[Occupation]:
    """This project's own list."""
    return [Occupation(word.replace("_", " ")) for word in packaged("occupations")["words"]]


def read_occupations(path: Path) -> list[Occupation]:
    """professions.json of Bolukbasi et al. 2016 (debiaswe): [title, definitional, stereotypical], from -1 to 1.

    Raises InputError that names the entry.
    """
    try:
        entries = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); give debiaswe's professions.json") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: a list of [title, definitional, stereotypical] is expected; give professions.json")
    return [_occupation(f"{path}, entry {number}", entry) for number, entry in enumerate(entries, 1)]


def _occupation(where: str, entry: Any) -> Occupation:
    good = isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and entry[0].strip()
    if not good or not all(isinstance(x, int | float) and not isinstance(x, bool) and -1 <= x <= 1 for x in entry[1:]):
        raise InputError(f"{where}: is {json.dumps(entry)[:80]}; it must be [title, number, number] from -1 to 1")
    return Occupation(entry[0].replace("_", " "), float(entry[1]), float(entry[2]))
