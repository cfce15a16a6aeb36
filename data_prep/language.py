"""The language of a text, by pycld2 (the paper's choice; compared with others in benchmarks/language.py)."""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN = "un"


class Detected(NamedTuple):
    """The language that most of a text is in."""

    code: str
    """ISO 639-1 where there is one; `un` when it can't be told."""
    name: str
    """In English, in capitals."""
    share: float
    """Of the text, in this language; 0 to 1."""


def detect(text: str, plain: bool = True) -> Detected:
    """What language a text is in; with `plain` off, of the text between the tags of HTML."""
    import pycld2

    try:
        reliable, _, found = pycld2.detect(text.encode(), isPlainText=plain)
    except pycld2.error:  # characters that it does not take for text
        return Detected(UNKNOWN, "Unknown", 0.0)
    name, code, percent, _ = found[0]
    if not reliable or code == UNKNOWN:
        return Detected(UNKNOWN, "Unknown", 0.0)
    return Detected(code, name, percent / 100)
