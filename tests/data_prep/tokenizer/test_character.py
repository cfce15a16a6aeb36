import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.config.errors import InputError
from tests.data_prep.tokenizer.texts import arrow


@settings(deadline=None)
@given(texts=st.lists(st.text("aé日😀", max_size=5), max_size=5))
def test_batches_are_single_texts(texts: list[str]) -> None:
    tokenizer = CharacterTokenizer("aé日😀")
    expected = [["aé日😀".index(character) for character in text] for text in texts]
    assert tokenizer.encode_batch(arrow(texts)).lists() == expected
    assert [tokenizer.encode(text) for text in texts] == expected


def test_an_unseen_character_is_named() -> None:
    with pytest.raises(InputError, match="character '日' is not one of the tokenizer's 1"):
        CharacterTokenizer("a").encode_batch(arrow(["aa", "a日"]))
