from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.heuristics import failing
from data_prep.recipe import Filter
from data_prep.words import Grams, words_of
from tests.data_prep.material import sentence

GOOD = (
    "The sea keeps its own account of all ships that have crossed it.\nAnd with the moon to guide them, few came home."
)
OFF: dict[str, Any] = {name: None for name in Filter.model_fields if name.startswith(("min_", "max_"))}


def batch(*texts: str) -> pa.Array:
    return pa.array(texts, pa.large_string())


def reasons(text: str, **rules: Any) -> list[str]:
    """Rules that drop a text, in a batch with others."""
    return [name for name, mask in failing(batch(GOOD, text, ""), Filter(**rules)) if mask[1]]


def test_running_text_passes_the_published_limits() -> None:
    prose = ".\n".join(sentence(i, 20) for i in range(6)) + ".\nTo be, and to have that with the sea."
    assert reasons(prose) == []
    assert Filter(**OFF).min_words is None
    assert reasons("", **OFF) == []


@pytest.mark.parametrize(
    ("text", "rule", "limit", "reason"),
    [
        ("one two", "min_words", 3, "too_few_words"),
        ("one two three", "max_words", 2, "too_many_words"),
        ("a b c", "min_mean_word_length", 2.0, "short_words"),
        ("antidisestablishmentarianism", "max_mean_word_length", 9.0, "long_words"),
        ("# one # two #", "max_symbols_per_word", 0.5, "symbols"),
        ("so … and … so...", "max_symbols_per_word", 0.5, "symbols"),
        ("- a\n• b\nc", "max_bullet_lines", 0.5, "bullet_lines"),
        ("a...\nb…\nc", "max_ellipsis_lines", 0.5, "ellipsis_lines"),
        ("12 % 34 a", "min_alphabetic_words", 0.5, "few_alphabetic_words"),
        ("The cat. THE dog", "min_stop_words", 2, "few_stop_words"),
        ("a\nb\n\na \na", "max_duplicate_lines", 0.4, "duplicate_lines"),
        ("long line here\nb\nlong line here", "max_duplicate_line_characters", 0.4, "duplicate_line_characters"),
        ("a\nb\n\nc\n\na\nb", "max_duplicate_paragraphs", 0.3, "duplicate_paragraphs"),
        ("aaaa\n\nb\n\naaaa", "max_duplicate_paragraph_characters", 0.4, "duplicate_paragraph_characters"),
        ("a b a b a b c", "max_top_2_gram", 0.8, "top_2_gram"),
        ("a b c d e f a b c d e", "max_duplicate_5_grams", 0.4, "duplicate_5_grams"),
        ("no end\nnone here", "min_terminal_punctuation", 0.1, "no_terminal_punctuation"),
        ("f() { return }", "max_curly_braces", 0, "curly_braces"),
        ("Lorem Ipsum dolor", "max_lorem_ipsum", 0, "lorem_ipsum"),
    ],
)
def test_each_rule_by_itself(text: str, rule: str, limit: float, reason: str) -> None:
    assert reasons(text, **OFF | {rule: limit}) == [reason]


def plain_repeated(words: list[str], n: int) -> float:
    """Share of characters in words of n-grams that occurred before, in the plainest way."""
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for i in range(len(words) - n + 1):
        gram = tuple(words[i : i + n])
        if gram in seen:
            covered |= set(range(i, i + n))
        seen.add(gram)
    return sum(len(words[i]) for i in covered) / max(sum(map(len, words)), 1)


def plain_top(words: list[str], n: int) -> float:
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    covered = max((count * sum(map(len, gram)) for gram, count in grams.items() if count > 1), default=0)
    return min(covered / max(sum(map(len, words)), 1), 1.0)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=25), min_size=1, max_size=4))
def test_grams_are_what_their_definition_says(texts: list[list[str]]) -> None:
    grams = Grams(words_of(batch(*map(" ".join, texts))))
    for n in range(2, 8):
        grams.grow()
        assert grams.repeated_share().tolist() == pytest.approx([plain_repeated(words, n) for words in texts])
        assert grams.top_share().tolist() == pytest.approx([plain_top(words, n) for words in texts])
