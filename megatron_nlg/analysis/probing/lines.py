"""Lines of labelled files: columns with and without a head, and JSON objects; what is wrong names file and line."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from megatron_nlg.config.errors import InputError

UNPACK: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}
SHOWN = 60
"""Characters of a broken value that a message shows."""


class Row:
    """Named fields of a line, and where it stands."""

    def __init__(self, where: str, fields: dict[str, Any]):
        self.where, self.fields = where, fields

    def text(self, *names: str) -> str:
        """The first of these fields that is there: a text with something in it, or a whole number as one."""
        name = self._name(names)
        value = self.fields[name]
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            self.refuse(name, "a text is expected")
        return str(value)

    def number(self, *names: str) -> float:
        """The first of these fields that is there: a finite number."""
        name = self._name(names)
        try:
            value = float(self.fields[name])
        except (TypeError, ValueError):
            self.refuse(name, "a number is expected")
        if not abs(value) < float("inf"):
            self.refuse(name, "a finite number is expected")
        return value

    def offset(self, *names: str) -> int:
        """The first of these fields that is there: a whole number from 0."""
        name = self._name(names)
        value = str(self.fields[name])
        if isinstance(self.fields[name], bool) or not (value.isascii() and value.isdigit()):
            self.refuse(name, "a whole number from 0 is expected")
        return int(value)

    def one_of(self, choices: dict[str, int], *names: str) -> int:
        """The first of these fields that is there: what `choices` gives for its lower-case text."""
        name = self._name(names)
        value = str(self.fields[name]).strip().lower()
        if value not in choices:
            self.refuse(name, f"one of {', '.join(choices)} is expected")
        return choices[value]

    def has(self, name: str) -> bool:
        """Whether a field is there."""
        return name in self.fields

    def refuse(self, name: str, wanted: str) -> NoReturn:
        """Raise InputError for a field."""
        shown = repr(self.fields[name])
        shown = shown if len(shown) < SHOWN else shown[: SHOWN - 1] + "…"
        raise InputError(f"{self.where}: {name} is {shown}; {wanted}; mend the line")

    def _name(self, names: Sequence[str]) -> str:
        for name in names:
            if name in self.fields:
                return name
        there = ", ".join(map(str, self.fields))[:SHOWN] or "nothing"
        raise InputError(
            f"{self.where}: has no {' or '.join(names)}, but {there}; give the file in a documented format"
        )


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """`FILE, line N` and the text of every line, unpacked by the file's ending (.xz, .gz). Raises InputError."""
    number = 0
    try:
        with UNPACK.get(path.suffix, open)(path, "rb") as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield f"{path}, line {number}", text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: is not UTF-8 at byte {error.start} of the line; convert it") from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: its compression is damaged ({error}); get it again") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; name a file that can be read") from None


def columns(path: Path, names: Sequence[str]) -> Iterator[Row]:
    """Rows of a tab-separated file without a head. Raises InputError for another number of columns."""
    for where, text in lines(path):
        if not text:
            continue
        cells = text.split("\t")
        if len(cells) != len(names):
            raise InputError(
                f"{where}: has {len(cells)} columns, not {len(names)} with tabs ({', '.join(names)}); mend the line"
            )
        yield Row(where, dict(zip(names, cells, strict=True)))


def table(path: Path) -> Iterator[Row]:
    """Rows of a tab-separated file under a line of names."""
    names: list[str] | None = None
    for where, text in lines(path):
        cells = text.split("\t")
        if names is None:
            names = cells
        elif text:
            if len(cells) != len(names):
                raise InputError(f"{where}: has {len(cells)} columns, and the head {len(names)}; mend the line")
            yield Row(where, dict(zip(names, cells, strict=True)))


def objects(path: Path) -> Iterator[Row]:
    """Rows of a file with a JSON object a line."""
    for where, text in lines(path):
        if not text:
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: broken JSON ({error}); mend the line") from None
        if not isinstance(value, dict):
            raise InputError(f"{where}: a JSON object is expected; mend the line")
        yield Row(where, value)


def is_json(path: Path) -> bool:
    """Whether a name ends in .jsonl or .json, packed or not."""
    return any(suffix in (".jsonl", ".json") for suffix in path.suffixes[-2:])


def named_rows(path: Path) -> Iterator[Row]:
    """Rows with names: JSON lines by the file's ending, else tab-separated under a head."""
    return objects(path) if is_json(path) else table(path)
