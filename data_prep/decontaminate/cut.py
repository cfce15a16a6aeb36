"""What is cut out of one document (MT-NLG, section 3): a match, its surroundings, and on to the sentences' ends."""

from __future__ import annotations

from collections.abc import Iterable

from data_prep.recipe.decontaminate import Decontaminate

_ENDS = ".!?"


def pieces(text: str, matches: Iterable[tuple[int, int]], rules: Decontaminate) -> list[str]:
    """What is left of a text, shorter pieces than `rules.min_characters` dropped; surrounding white space is off.

    `matches` are (first character, one past the last) in order of the first; of two with one first the longer counts.
    A match that begins in what an earlier one has cut is gone with it.
    """
    left, start = [], 0
    for first, end in sorted(matches, key=lambda match: (match[0], -match[1])):
        if first < start:
            continue
        left.append(text[start : _sentence_end_before(text, start, first - rules.characters)])
        start = _sentence_end_after(text, end + rules.characters)
    left.append(text[start:])
    stripped = (piece.strip() for piece in left)
    return [piece for piece in stripped if piece and len(piece) >= rules.min_characters]


def _sentence_end_before(text: str, start: int, position: int) -> int:
    """One past the last sentence end at or before `position`; `start` when there is none."""
    found = max(text.rfind(end, start, max(position + 1, start)) for end in _ENDS)
    return found + 1 if found >= 0 else start


def _sentence_end_after(text: str, position: int) -> int:
    """One past the first sentence end at or after `position`; the text's end when there is none."""
    found = [at for at in (text.find(end, position) for end in _ENDS) if at >= 0]
    return min(found) + 1 if found else len(text)
