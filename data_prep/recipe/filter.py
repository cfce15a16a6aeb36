"""Heuristics of quality."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data_prep.recipe.kinds import Count, Strings
from megatron_nlg.config.base import Section

Share = Annotated[float, Field(ge=0, le=1)] | None


class Filter(Section):
    """Documents are dropped by simple statistics; null switches a rule off.

    Defaults are those of Gopher (Rae et al. 2021, table A1), C4 (Raffel et al. 2020) and, for terminal punctuation,
    FineWeb (Penedo et al. 2024). Words are what stands between white space; lines and paragraphs (parted by blank
    lines) are counted without empty ones; shares of characters are of all characters in words.
    """

    sources: Strings | None = None
    """Names of the sources it is for; null for all. Code, verse and tables fail many of these rules."""
    min_words: Count | None = 50
    """Fewer words: too_few_words."""
    max_words: Count | None = 100_000
    """More words: too_many_words."""
    min_mean_word_length: Annotated[float, Field(ge=0)] | None = 3.0
    """Shorter words on average, in characters: short_words."""
    max_mean_word_length: Annotated[float, Field(ge=0)] | None = 10.0
    """Longer words on average: long_words."""
    max_symbols_per_word: Annotated[float, Field(ge=0)] | None = 0.1
    """More `#`, or more ellipses, a word: symbols."""
    max_bullet_lines: Share = 0.9
    """A larger share of lines that begin with a bullet: bullet_lines."""
    max_ellipsis_lines: Share = 0.3
    """A larger share of lines that end with an ellipsis: ellipsis_lines."""
    min_alphabetic_words: Share = 0.8
    """A smaller share of words with a letter: few_alphabetic_words."""
    min_stop_words: Count | None = 2
    """Fewer different ones of stop_words: few_stop_words."""
    stop_words: Strings = ("the", "be", "to", "of", "and", "that", "have", "with")
    """See min_stop_words; for another language, its own."""
    max_duplicate_lines: Share = 0.3
    """A larger share of lines that occurred before: duplicate_lines."""
    max_duplicate_line_characters: Share = 0.2
    """A larger share of characters in such lines: duplicate_line_characters."""
    max_duplicate_paragraphs: Share = 0.3
    """A larger share of paragraphs that occurred before: duplicate_paragraphs."""
    max_duplicate_paragraph_characters: Share = 0.2
    """A larger share of characters in such paragraphs: duplicate_paragraph_characters."""
    max_top_2_gram: Share = 0.2
    """A larger share of characters in the most frequent word 2-gram: top_2_gram."""
    max_top_3_gram: Share = 0.18
    """The same of 3-grams: top_3_gram."""
    max_top_4_gram: Share = 0.16
    """The same of 4-grams: top_4_gram."""
    max_duplicate_5_grams: Share = 0.15
    """A larger share of characters in words of 5-grams that occurred before: duplicate_5_grams."""
    max_duplicate_6_grams: Share = 0.14
    """The same of 6-grams: duplicate_6_grams."""
    max_duplicate_7_grams: Share = 0.13
    """The same of 7-grams: duplicate_7_grams."""
    max_duplicate_8_grams: Share = 0.12
    """The same of 8-grams: duplicate_8_grams."""
    max_duplicate_9_grams: Share = 0.11
    """The same of 9-grams: duplicate_9_grams."""
    max_duplicate_10_grams: Share = 0.10
    """The same of 10-grams: duplicate_10_grams."""
    min_terminal_punctuation: Share = 0.12
    """A smaller share of lines that end with one of `.?!…` or a closing quotation mark: no_terminal_punctuation."""
    max_curly_braces: Count | None = 0
    """More `{`: curly_braces (C4: it is code, or a page's script)."""
    max_lorem_ipsum: Count | None = 0
    """More `lorem ipsum`, in any case: lorem_ipsum."""
