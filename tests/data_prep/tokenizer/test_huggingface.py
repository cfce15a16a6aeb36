import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokenizer import EOD, BytePairTokenizer, HuggingFaceTokenizer, load_tokenizer
from megatron_nlg.config.errors import InputError
from tests.data_prep.material import data_folder
from tests.data_prep.tokenizer.texts import TEXTS, arrow


@pytest.fixture(scope="module")
def byte_pair() -> BytePairTokenizer:
    return BytePairTokenizer.train(TEXTS, 330)


@given(text=st.text())
@settings(max_examples=300, deadline=None)
def test_byte_level_bpe_decodes_what_it_encodes(byte_pair: BytePairTokenizer, text: str) -> None:
    assert byte_pair.decode(byte_pair.encode(text)) == text


def test_gpt2() -> None:
    folder = data_folder("tokenizer")
    tokenizer = BytePairTokenizer.from_gpt2(folder / "gpt2-vocab.json", folder / "gpt2-merges.txt")
    assert (tokenizer.encode(" the"), tokenizer.eod, tokenizer.vocab_size) == ([262], 50256, 50257)
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.decode([50256]) == EOD
    assert 50256 not in tokenizer.encode(EOD)
    text = data_folder("text", "tinyshakespeare.txt").read_text()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    # nanoGPT's published counts: each part encoded by itself.
    parts = text[: int(len(text) * 0.9)], text[int(len(text) * 0.9) :]
    assert [len(tokenizer.encode(part)) for part in parts] == [301966, 36059]


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ('{"a": 0, "b": 1, "ab": 2}', "a b", r"vocab\.json: has no <\|endoftext\|>"),
        ('{"a": 0, "b": 7, "<|endoftext|>": 1}', "a b", r"vocab\.json: ids are not 0\.\.2"),
        ('{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}', "a b c", r"merges\.txt:1: a merge is two words, not 'a b c'"),
        ('{"a": 0, "b": 1, "<|endoftext|>": 2}', "#version: 0.2\na b", r"merges\.txt: does not fit vocab\.json"),
        ("[", "", r"vocab\.json: not valid JSON"),
        ('{"a": 0, "<|endoftext|>": 1}', None, r"merges\.txt: no such file"),
    ],
)
def test_damaged_gpt2_files(tmp_path: Path, vocab: str, merges: str | None, message: str) -> None:
    (tmp_path / "vocab.json").write_text(vocab)
    if merges is not None:
        (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(InputError, match=message):
        BytePairTokenizer.from_gpt2(tmp_path / "vocab.json", tmp_path / "merges.txt")


def changed(byte_pair: BytePairTokenizer, eod: str = "</s>", special: bool = True, **parts: Any) -> str:
    """The content of a tokenizer with another end of document."""
    text = json.dumps(byte_pair.tree | parts).replace(json.dumps(EOD), json.dumps(eod))
    return text.replace('"special": true', f'"special": {json.dumps(special)}')


@pytest.mark.parametrize("special", [True, False])
def test_any_tokenizer_json_with_its_own_end_of_document(
    byte_pair: BytePairTokenizer, tmp_path: Path, special: bool
) -> None:
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    tokenizer = HuggingFaceTokenizer(changed(byte_pair, special=special, truncation=cut), eod="</s>")
    ids = tokenizer.encode("the sea </s> the moon")
    assert len(ids) > 4  # not cut
    assert tokenizer.eod not in ids
    assert tokenizer.decode([*ids, tokenizer.eod]) == "the sea </s> the moon</s>"
    assert tokenizer.identity != byte_pair.identity
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.kind, loaded.eod, loaded.identity) == ("huggingface", tokenizer.eod, tokenizer.identity)
    assert loaded.encode_batch(arrow(TEXTS)).lists() == tokenizer.encode_batch(arrow(TEXTS)).lists()


def test_a_name_that_is_no_end_of_document(byte_pair: BytePairTokenizer) -> None:
    with pytest.raises(InputError, match=r"x\.json: has no </s> token.*name one of its own.*: <\|endoftext\|>"):
        HuggingFaceTokenizer(json.dumps(byte_pair.tree), "x.json", "</s>")
    with pytest.raises(InputError, match="text that spells e becomes that token"):
        HuggingFaceTokenizer(json.dumps(byte_pair.tree), "x.json", "e")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"model": {}}'])
def test_what_is_no_tokenizer(content: str) -> None:
    with pytest.raises(InputError, match="not a tokenizer of Hugging Face's format"):
        HuggingFaceTokenizer(content)
