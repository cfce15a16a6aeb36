"""SLURM's host lists, both ways: `n[1-3,07],m[1-2]x` <-> n1, n2, n3, n07, m1x, m2x."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from megatron_nlg.config.errors import InputError

LIMIT = 100_000
"""More names than any cluster has: a range of that many is a mistake, and would only fill the memory."""
DIGITS = 18
"""A longer run of digits is part of a name, not a number that is counted."""
_RANGE = re.compile(rf"([0-9]{{1,{DIGITS}}})(?:-([0-9]{{1,{DIGITS}}}))?")
_LAST_NUMBER = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
_FORBIDDEN = re.compile(r"[\[\],\s]")


def expand(text: str) -> list[str]:
    """The names of a host list, in its order; zero padding is kept. Raises InputError."""
    names: list[str] = []
    if text.strip() in {"", "(null)"}:
        return names
    for term in _terms(text):
        parts = [_part(part, text) for part in _parts(term, text)]
        size = 1
        for part in parts:
            size *= len(part)
        if len(names) + size > LIMIT:
            raise InputError(f"host list {_short(text)}: more than {LIMIT:,} names")
        names += ("".join(choice) for choice in itertools.product(*parts))
    return names


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _terms(text: str) -> Iterator[str]:
    """Split at the commas outside brackets."""
    start, depth = 0, 0
    for i, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth not in {0, 1}:
            raise InputError(f"host list {_short(text)}: brackets don't match at {text[i:][:20]!r}")
        if character == "," and not depth:
            yield text[start:i]
            start = i + 1
    if depth:
        raise InputError(f"host list {_short(text)}: a closing ] is expected")
    yield text[start:]


def _parts(term: str, text: str) -> list[str]:
    """`n[1-2]x` -> n, [1-2], x."""
    term = term.strip()
    if not term or any(character.isspace() for character in term):
        raise InputError(f"host list {_short(text)}: found {term!r}, expected a name such as node7 or node[1-8,12]")
    return [part for part in re.split(r"(\[[^\]]*\])", term) if part]


def _part(part: str, text: str) -> list[str]:
    if not part.startswith("["):
        return [part]
    names: list[str] = []
    for item in part[1:-1].split(","):
        match = _RANGE.fullmatch(item.strip())
        if match is None:
            raise InputError(
                f"host list {_short(text)}: found {item!r} in brackets, expected numbers such as 1-8 or 12"
            )
        low, high = match[1], match[2] or match[1]
        if int(high) < int(low):
            raise InputError(f"host list {_short(text)}: range {item!r} runs backwards")
        if len(names) + int(high) - int(low) >= LIMIT:
            raise InputError(f"host list {_short(text)}: more than {LIMIT:,} names")
        names += (f"{number:0{len(low)}d}" for number in range(int(low), int(high) + 1))
    return names


def compact(names: Sequence[str]) -> str:
    """The shortest host list of names that keeps their order: n[1-3,7]. Raises InputError on what no name can be."""
    terms: list[str] = []
    for (prefix, suffix, numbered), group in itertools.groupby(map(_split, names), key=lambda split: split[0]):
        numbers = [number for _, number in group]
        if not numbered:
            terms += [prefix] * len(numbers)
        elif len(numbers) == 1:
            terms.append(f"{prefix}{numbers[0]}{suffix}")
        else:
            terms.append(f"{prefix}[{','.join(_runs(numbers))}]{suffix}")
    return ",".join(terms)


def _split(name: str) -> tuple[tuple[str, str, bool], str]:
    """(What is before its last number, what is after it, whether it has one), the number."""
    if not name or name == "(null)" or _FORBIDDEN.search(name):
        raise InputError(f"name {name!r}: brackets, commas and blanks can't be part of one")
    match = _LAST_NUMBER.fullmatch(name)
    if match is None or len(match[2]) > DIGITS:
        return (name, "", False), ""
    return (match[1], match[3], True), match[2]


def _runs(numbers: Sequence[str]) -> Iterator[str]:
    """08, 09, 10, 12 -> 08-10, 12: a run is what its first number's padding gives."""
    i = 0
    while i < len(numbers):
        first, length = numbers[i], 1
        while i + length < len(numbers) and numbers[i + length] == f"{int(first) + length:0{len(first)}d}":
            length += 1
        yield first if length == 1 else f"{first}-{numbers[i + length - 1]}"
        i += length
