"""Text as it comes: the same as decoded at once, whole characters only, and ended by stop sequences."""

from __future__ import annotations

import functools

from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.tokenizer import BytePairTokenizer, CharacterTokenizer, Tokenizer
from megatron_nlg.generation.text import UNFINISHED, TextStream

TEXT = st.text(st.sampled_from("ab é世🌍\n"), max_size=20)


@functools.cache
def byte_pairs() -> Tokenizer:
    return BytePairTokenizer.train(["ab ab é 世界 a b", "🌍 ab\nba"] * 5, 275)


@given(st.lists(st.integers(0, 260), max_size=30))
@example([0xE4, 0xB8])
def test_any_tokens_come_out_as_decoded_at_once(tokens: list[int]) -> None:
    """Also bytes that are no characters."""
    tokenizer = byte_pairs()
    tokens = [token for token in tokens if token != tokenizer.eod]
    stream = TextStream(tokenizer, ())
    assert "".join([*map(stream.add, tokens), stream.end()]) == tokenizer.decode(tokens) == stream.text


@given(TEXT)
def test_only_whole_characters_come_out(text: str) -> None:
    stream = TextStream(byte_pairs(), ())
    for token in byte_pairs().encode(text):
        assert UNFINISHED not in stream.add(token)
    assert stream.end() == "" and stream.text == text


@given(TEXT, st.lists(TEXT.filter(bool), min_size=1, max_size=3))
def test_a_stop_sequence_ends_the_text_before_it(text: str, stop: list[str]) -> None:
    stream = TextStream(byte_pairs(), stop)
    for token in byte_pairs().encode(text):
        stream.add(token)
        assert not any(s in stream.text for s in stop)
        if stream.stopped:
            break
    stream.end()
    ends = [text.index(s) for s in stop if s in text]
    assert stream.stopped == bool(ends)
    if not ends:
        assert stream.text == text
    else:
        # A token may complete two at once; then the one that begins first counts.
        assert any(stream.text == text[:end] for end in ends)


def test_what_may_begin_a_stop_sequence_is_held_back() -> None:
    tokenizer = CharacterTokenizer("abc")
    stream = TextStream(tokenizer, ("abc",))
    assert [stream.add(token) for token in tokenizer.encode("aabab")] == ["", "a", "", "ab", ""]
    assert stream.end() == "ab"
