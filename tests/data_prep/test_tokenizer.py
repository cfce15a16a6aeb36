import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokenizer import (
    EOD,
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
)
from megatron_nlg.config.errors import InputError
from tests.data_prep.material import data_folder, sentence

TEXTS = [sentence(seed) + f"\n\n  {EOD} naïve café\n" for seed in range(20)]


@pytest.fixture(scope="module")
def byte_pair() -> BytePairTokenizer:
    return BytePairTokenizer.train(TEXTS, 330)


@pytest.fixture(scope="module", params=["bpe", "sp-bpe", "sp-unigram", "char"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train(request.param)


def train(kind: str) -> Tokenizer:
    if kind == "bpe":
        return BytePairTokenizer.train(iter(TEXTS), 330)
    if kind == "char":
        return CharacterTokenizer.train(iter(TEXTS))
    return SentencePieceTokenizer.train(iter(TEXTS), 330, kind.removeprefix("sp-"))


def test_round_trip_save_load_and_identity(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(0 <= i < tokenizer.vocab_size for i in ids)
        assert tokenizer.eod not in ids  # though the text spells its name
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.decode([*tokenizer.encode("a sea"), tokenizer.eod, *tokenizer.encode("a")]) == f"a sea{EOD}a"
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    for key in ("kind", "identity", "vocab_size", "eod", "unique_identifiers"):
        assert getattr(loaded, key) == getattr(tokenizer, key)


@pytest.mark.parametrize("kind", ["bpe", "sp-bpe", "sp-unigram", "char"])
def test_training_is_deterministic(kind: str) -> None:
    assert train(kind).identity == train(kind).identity


def test_identity_depends_on_content(byte_pair: BytePairTokenizer) -> None:
    assert byte_pair.identity != BytePairTokenizer.train(TEXTS, 300).identity
    assert CharacterTokenizer("ab").identity != CharacterTokenizer("ba").identity


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


def test_unseen_text(byte_pair: BytePairTokenizer) -> None:
    sentencepiece = SentencePieceTokenizer.train(TEXTS, 330, "bpe")
    assert sentencepiece.decode(sentencepiece.encode("日本\tx\n")) == "日本\tx\n"  # byte fallback
    with pytest.raises(InputError, match="character 'Z' is not one of the tokenizer's 2"):
        CharacterTokenizer("ab").encode("aZ")
    for kind in (byte_pair, sentencepiece, CharacterTokenizer("ab")):
        with pytest.raises(InputError, match=f"token 70000 is outside the tokenizer's {kind.vocab_size} entries"):
            kind.decode([70000])


def test_sentencepiece_corpus_too_small_names_the_setting() -> None:
    with pytest.raises(InputError, match=r"tokenizer\.vocab_size: 50000 does not fit this corpus"):
        SentencePieceTokenizer.train(["a b c"] * 10, 50000, "bpe")


def test_damaged_folders(byte_pair: BytePairTokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"meta\.json: no such file"):
        load_tokenizer(tmp_path)
    byte_pair.save(tmp_path)
    content = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(content[:-20])
    with pytest.raises(InputError, match="not a tokenizer"):
        load_tokenizer(tmp_path)
    tree = json.loads(content)
    tree["model"]["merges"] = tree["model"]["merges"][:-1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match="changed after it was written"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: No such file"):
        load_tokenizer(tmp_path)
    (tmp_path / "meta.json").write_text('{"kind": "pickle"}')
    with pytest.raises(InputError, match="kind is one of bpe, sentencepiece, char, not 'pickle'"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"a": 1}', '["a", "a"]', '["ab"]', "[1]"])
def test_damaged_characters(tmp_path: Path, content: str) -> None:
    CharacterTokenizer("ab").save(tmp_path)
    (tmp_path / "chars.json").write_text(content)
    with pytest.raises(InputError, match=r"chars\.json"):
        load_tokenizer(tmp_path)


def test_damaged_sentencepiece(tmp_path: Path) -> None:
    SentencePieceTokenizer.train(TEXTS, 330, "bpe").save(tmp_path)
    (tmp_path / "spm.model").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"spm\.model: not a sentencepiece model"):
        load_tokenizer(tmp_path)


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
