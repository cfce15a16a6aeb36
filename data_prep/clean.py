"""Cleaning of one document: repair, white space, length rules (MT-NLG, section 3)."""

from __future__ import annotations

import re

from data_prep.recipe import Clean

_LINE_END_SPACE = re.compile(r"[^\S\n]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")


# ftfy looks at every line with dozens of rules, none of which concerns text of these characters alone.
_NOTHING_TO_FIX = re.compile(r"[\t\n\x20-%'-~]*")


def clean_text(text: str, rules: Clean) -> str:
    """The repaired text."""
    if rules.ftfy and not _NOTHING_TO_FIX.fullmatch(text):
        import ftfy

        text = ftfy.fix_text(text)
    if rules.whitespace:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = _BLANK_LINES.sub("\n\n\n", _LINE_END_SPACE.sub("", text)).strip()
    return text


def drop_reason(text: str, rules: Clean) -> str | None:
    """Why a cleaned document is dropped, or None: empty, too_short, too_long or boilerplate."""
    if not text.strip():
        return "empty"
    if len(text) < rules.boilerplate_min_characters:
        lower = text.lower()
        if any(word.lower() in lower for word in rules.boilerplate_words):
            return "boilerplate"
    if len(text) < rules.min_characters:
        return "too_short"
    if rules.max_characters is not None and len(text) > rules.max_characters:
        return "too_long"
    return None
