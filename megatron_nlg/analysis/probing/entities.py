"""Named entities: the class of a given span, from CoNLL columns, edge probing's JSON lines, or a tagger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from megatron_nlg.analysis.probing.example import Example, Mark, ProbingSet, finish
from megatron_nlg.analysis.probing.lines import is_json, lines
from megatron_nlg.analysis.probing.spans import joined, targets
from megatron_nlg.config.errors import InputError

OUTSIDE = "O"

Found = tuple[str, Mark, str]
"""Text, span, class."""
Tag = Callable[[Sequence[str]], Any]


def from_file(path: Path, limit: int, seed: int) -> ProbingSet:
    """CoNLL-2003 or OntoNotes columns (word first, BIO tag last), or JSON lines of edge probing. Raises InputError."""
    if is_json(path):
        found = [(target.text, target.spans[0], target.label) for target in targets(path, spans=1)]
    else:
        found = list(_columns(path))
    return _entities(found, limit, seed, f"spans and classes of {path.name}", str(path))


def from_tagger(tag: Tag, texts: Sequence[str], limit: int, seed: int) -> ProbingSet:
    """Of passages, by a function that gives each text's (begin, end, class), in characters. Raises InputError."""
    found: list[Found] = []
    tagged = list(tag(texts))
    if len(tagged) != len(texts):
        raise InputError(f"--tagger: gives {len(tagged)} rows for {len(texts)} texts; return one a text")
    for text, spans in zip(texts, tagged, strict=True):
        for span in spans:
            try:
                begin, end, name = int(span[0]), int(span[1]), str(span[2])
            except (TypeError, ValueError, IndexError):
                raise InputError(f"--tagger: gives {span!r}; (begin, end, class) is expected") from None
            if not 0 <= begin < end <= len(text) or not text[begin:end].strip():
                raise InputError(f"--tagger: gives the span {begin} to {end} of a text of {len(text)} characters")
            found.append((text, (begin, end), name))
    return _entities(found, limit, seed, "spans and classes of the tagger in passages", "--tagger")


def _entities(found: Sequence[Found], limit: int, seed: int, source: str, where: str) -> ProbingSet:
    classes = sorted({name for _, _, name in found})
    number = {name: place for place, name in enumerate(classes)}
    examples = [Example(text, (mark,), number[name], text[slice(*mark)].lower()) for text, mark, name in found]
    about = f"The class of a given named entity: {source}. Span: the entity. Control: its words."
    return finish("entities", classes, examples, limit, seed, about, where)


def _columns(path: Path) -> Iterator[Found]:
    words: list[str] = []
    tags: list[str] = []
    for where, line in (*lines(path), ("", "")):
        cells = line.split()
        if not cells or cells[0].startswith("-DOCSTART-") or (line.startswith("#") and len(cells) != 2):
            yield from _sentence(words, tags)
            words, tags = [], []
            continue
        if len(cells) < 2:
            raise InputError(f"{where}: has 1 column; a word and its tag are expected, such as `Paris B-LOC`")
        tag = cells[-1]
        if tag != OUTSIDE and tag[:2] not in ("B-", "I-", "E-", "S-", "L-", "U-"):
            raise InputError(f"{where}: tag {tag!r} is neither O nor B- or I- with a class; mend the line")
        words.append(cells[0])
        tags.append(tag)


def _sentence(words: Sequence[str], tags: Sequence[str]) -> Iterator[Found]:
    """Entities of BIO tags, and of IOB1's, where an entity may begin with I-."""
    text, marks = joined(words)
    begin = None
    for place in range(len(tags) + 1):
        tag = tags[place] if place < len(tags) else OUTSIDE
        goes_on = begin is not None and tag[:2] in ("I-", "E-", "L-") and tag[2:] == tags[begin][2:]
        if begin is not None and not goes_on:
            yield text, (marks[begin][0], marks[place - 1][1]), tags[begin][2:]
            begin = None
        if begin is None and tag != OUTSIDE:
            begin = place
