"""Sentiment lexicons in their published layouts: SentiWordNet, also with parts of speech, and VADER."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shared.files import read_text

PARTS = {"a": "adjective", "s": "adjective", "r": "adverb", "n": "noun", "v": "verb"}


@dataclass(frozen=True)
class SentiWordNet:
    """Baccianella et al. 2010."""

    scores: Mapping[tuple[str, str], float]
    """(lemma, part of speech) -> positive less negative, from -1 to 1: senses weighted by 1 / their number."""
    senses: Mapping[str, Mapping[str, int]]
    """lemma -> part of speech -> number of senses."""

    def part_of(self, word: str) -> str | None:
        """The part of speech with most senses, of equals in the order of PARTS; None for an unknown word."""
        counts = self.senses.get(word)
        if not counts:
            return None
        order = list(dict.fromkeys(PARTS.values()))
        return max(counts, key=lambda part: (counts[part], -order.index(part)))

    def score(self, word: str) -> float | None:
        """As an adjective or adverb, by the more usual one."""
        counts = self.senses.get(word, {})
        known = [part for part in ("adjective", "adverb") if part in counts]
        return self.scores[word, max(known, key=counts.__getitem__)] if known else None


def read_sentiwordnet(path: Path) -> SentiWordNet:
    """SentiWordNet_3.0's table (POS, ID, PosScore, NegScore, terms, gloss) or one of POS, PosScore, NegScore and terms.

    Columns are parted by tabs, lines with # in front are comments. Raises InputError that names the line.
    """
    found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for where, cells in _lines(path):
        if len(cells) not in (4, 5, 6) or cells[0] not in PARTS:
            raise InputError(f"{where}: is {' | '.join(cells)[:60]!r}; it must be POS, [ID], PosScore, NegScore, terms")
        wide = len(cells) > 4
        score = _number(where, cells[1 + wide], 0, 1) - _number(where, cells[2 + wide], 0, 1)
        for term in cells[3 + wide].split():
            lemma, mark, sense = term.rpartition("#")
            if not mark or not lemma or not sense.isdecimal() or int(sense) < 1:
                raise InputError(f"{where}: {term!r} is no term with its sense, such as able#1; mend it")
            found[lemma.lower(), PARTS[cells[0]]].append((int(sense), score))
    if not found:
        raise InputError(f"{path}: holds no entry; give SentiWordNet's table")
    senses: dict[str, dict[str, int]] = defaultdict(dict)
    for (lemma, part), entries in found.items():
        senses[lemma][part] = len(entries)
    scores = {key: sum(s / n for n, s in entries) / sum(1 / n for n, _ in entries) for key, entries in found.items()}
    return SentiWordNet(scores, senses)


def read_vader(path: Path) -> dict[str, float]:
    """vader_lexicon.txt (Hutto and Gilbert 2014): token, mean valence from -4 to 4, and more, parted by tabs."""
    scores = {}
    for where, cells in _lines(path, comments=False):
        if len(cells) < 2 or not cells[0]:
            raise InputError(f"{where}: is {' | '.join(cells)[:60]!r}; it must be a token, a tab and its valence")
        scores[cells[0].lower()] = _number(where, cells[1], -4, 4)
    if not scores:
        raise InputError(f"{path}: holds no entry; give vader_lexicon.txt")
    return scores


def _lines(path: Path, comments: bool = True) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        text = line.rstrip("\r")
        if text.strip() and not (comments and text.startswith("#")):
            yield f"{path}, line {number}", text.split("\t")


def _number(where: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise InputError(f"{where}: {text!r} is no number from {low:g} to {high:g}; mend it")
    return value
