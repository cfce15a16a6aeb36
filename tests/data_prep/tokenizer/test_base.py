from pathlib import Path

import pytest

from data_prep.tokenizer import (
    EOD,
    BytePairTokenizer,
    CharacterTokenizer,
    Encoded,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
)
from megatron_nlg.config.errors import InputError
from tests.data_prep.tokenizer.texts import TEXTS, arrow


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
    assert tokenizer.encode_batch(arrow(TEXTS)).lists() == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.encode_batch(arrow(TEXTS).slice(3, 4)).lists() == [tokenizer.encode(text) for text in TEXTS[3:7]]
    for texts in ([], [""], ["", "a", ""]):
        assert tokenizer.encode_batch(arrow(texts)).lists() == [tokenizer.encode(text) for text in texts]
    assert tokenizer.decode([*tokenizer.encode("a sea"), tokenizer.eod, *tokenizer.encode("a")]) == f"a sea{EOD}a"
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode_batch(arrow(TEXTS)).lists() == tokenizer.encode_batch(arrow(TEXTS)).lists()
    for key in ("kind", "identity", "vocab_size", "eod", "unique_identifiers"):
        assert getattr(loaded, key) == getattr(tokenizer, key)


@pytest.mark.parametrize("kind", ["bpe", "sp-bpe", "sp-unigram", "char"])
def test_training_is_deterministic(kind: str) -> None:
    assert train(kind).identity == train(kind).identity


def test_identity_depends_on_content(byte_pair: BytePairTokenizer) -> None:
    assert byte_pair.identity != BytePairTokenizer.train(TEXTS, 300).identity
    assert CharacterTokenizer("ab").identity != CharacterTokenizer("ba").identity


def test_unseen_text(byte_pair: BytePairTokenizer) -> None:
    sentencepiece = SentencePieceTokenizer.train(TEXTS, 330, "bpe")
    assert sentencepiece.decode(sentencepiece.encode("日本\tx\n")) == "日本\tx\n"  # byte fallback
    with pytest.raises(InputError, match="character 'Z' is not one of the tokenizer's 2"):
        CharacterTokenizer("ab").encode("aZ")
    for kind in (byte_pair, sentencepiece, CharacterTokenizer("ab")):
        with pytest.raises(InputError, match=f"token 70000 is outside the tokenizer's {kind.vocab_size} entries"):
            kind.decode([70000])


def test_batches_of_documents() -> None:
    encoded = Encoded.of([[1, 2], [], [3]])
    assert encoded.offsets.tolist() == [0, 2, 2, 3]
    assert encoded.lists() == [[1, 2], [], [3]]
    assert Encoded.of([]).lists() == []
