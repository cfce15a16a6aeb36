"""C4's and Gopher's heuristics on batches of texts: statistics of words, lines and repetitions against limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.recipe.filter import Filter
from data_prep.words import Grams, Pieces, lines_of, paragraphs_of, repeats, words_of

Mask = NDArray[np.bool_]
_BULLET = r"^[•‣▶◀◦■□▪▫–*-]"
_ELLIPSIS = r"(\.\.\.|…)$"
_TERMINAL = r"""[.?!…]["'”’»)\]]*$|["”’»]$"""


def failing(texts: pa.Array, rules: Filter) -> Iterator[tuple[str, Mask]]:
    """Which documents each rule drops: its reason and [documents], for the rules that are on."""
    words = words_of(texts)
    yield from _of_words(texts, words, rules)
    yield from _of_text(texts, rules)
    lines = lines_of(texts)
    yield from _of_lines(lines, rules)
    yield from _of_repeats(lines, "line", rules.max_duplicate_lines, rules.max_duplicate_line_characters)
    paragraphs = paragraphs_of(texts)
    limits = rules.max_duplicate_paragraphs, rules.max_duplicate_paragraph_characters
    yield from _of_repeats(paragraphs, "paragraph", *limits)
    yield from _of_grams(words, rules)


def _share(part: NDArray[np.generic], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of nothing, no share."""
    share: NDArray[np.float64] = part / np.maximum(whole, 1)
    return share


def _of_words(texts: pa.Array, words: Pieces, rules: Filter) -> Iterator[tuple[str, Mask]]:
    count = words.counts
    mean = _share(words.sum(words.lengths), count)
    if rules.min_words is not None:
        yield "too_few_words", count < rules.min_words
    if rules.max_words is not None:
        yield "too_many_words", count > rules.max_words
    if rules.min_mean_word_length is not None:
        yield "short_words", mean < rules.min_mean_word_length
    if rules.max_mean_word_length is not None:
        yield "long_words", mean > rules.max_mean_word_length
    if rules.max_symbols_per_word is not None:
        hashes = _count(texts, "#")
        ellipses = _count(texts, "...") + _count(texts, "…")
        yield "symbols", _share(np.maximum(hashes, ellipses), count) > rules.max_symbols_per_word
    if rules.min_alphabetic_words is not None:
        letters = words.look_up(lambda distinct: pc.match_substring_regex(distinct, r"\p{L}"))
        yield "few_alphabetic_words", _share(words.sum(letters), count) < rules.min_alphabetic_words
    if rules.min_stop_words is not None:
        yield "few_stop_words", _stop_words(words, rules.stop_words) < rules.min_stop_words


def _stop_words(words: Pieces, known: Sequence[str]) -> NDArray[np.int64]:
    """Different stop words of each document; [documents]."""
    lower = pc.utf8_trim(pc.utf8_lower(words.distinct), characters=""".,;:!?"'()[]“”‘’""")
    found = np.zeros(len(words.counts), np.int64)
    for word in dict.fromkeys(known):
        here = pc.equal(lower, word.lower()).to_numpy(zero_copy_only=False)
        found += words.sum(here[words.codes]) > 0
    return found


def _of_text(texts: pa.Array, rules: Filter) -> Iterator[tuple[str, Mask]]:
    if rules.max_curly_braces is not None:
        yield "curly_braces", _count(texts, "{") > rules.max_curly_braces
    if rules.max_lorem_ipsum is not None:
        counts = pc.count_substring(texts, "lorem ipsum", ignore_case=True).to_numpy()
        yield "lorem_ipsum", counts > rules.max_lorem_ipsum


def _count(texts: pa.Array, pattern: str) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = pc.count_substring(texts, pattern).to_numpy()
    return counts


def _of_lines(lines: Pieces, rules: Filter) -> Iterator[tuple[str, Mask]]:
    def share(pattern: str) -> NDArray[np.float64]:
        matches = lines.look_up(lambda distinct: pc.match_substring_regex(distinct, pattern))
        return _share(lines.sum(matches), lines.counts)

    if rules.max_bullet_lines is not None:
        yield "bullet_lines", share(_BULLET) > rules.max_bullet_lines
    if rules.max_ellipsis_lines is not None:
        yield "ellipsis_lines", share(_ELLIPSIS) > rules.max_ellipsis_lines
    if rules.min_terminal_punctuation is not None:
        yield "no_terminal_punctuation", share(_TERMINAL) < rules.min_terminal_punctuation


def _of_repeats(
    pieces: Pieces, name: str, limit: float | None, character_limit: float | None
) -> Iterator[tuple[str, Mask]]:
    if limit is None and character_limit is None:
        return
    again = repeats(pieces)
    if limit is not None:
        yield f"duplicate_{name}s", _share(pieces.sum(again), pieces.counts) > limit
    if character_limit is not None:
        lengths = pieces.lengths
        yield f"duplicate_{name}_characters", _share(pieces.sum(again * lengths), pieces.sum(lengths)) > character_limit


def _of_grams(words: Pieces, rules: Filter) -> Iterator[tuple[str, Mask]]:
    limits = {n: getattr(rules, f"max_top_{n}_gram") for n in (2, 3, 4)}
    limits |= {n: getattr(rules, f"max_duplicate_{n}_grams") for n in range(5, 11)}
    wanted = [n for n, limit in limits.items() if limit is not None]
    if not wanted:
        return
    grams = Grams(words)
    while grams.n < wanted[-1]:
        grams.grow()
        limit = limits[grams.n]
        if limit is not None and grams.n < 5:
            yield f"top_{grams.n}_gram", grams.top_share() > limit
        elif limit is not None:
            yield f"duplicate_{grams.n}_grams", grams.repeated_share() > limit
