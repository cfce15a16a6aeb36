from pathlib import Path

import pytest

from data_prep.tokenizer import SentencePieceTokenizer, load_tokenizer
from megatron_nlg.config.errors import InputError
from tests.data_prep.tokenizer.texts import TEXTS


def test_sentencepiece_corpus_too_small_names_the_setting() -> None:
    with pytest.raises(InputError, match=r"tokenizer\.vocab_size: 50000 does not fit this corpus"):
        SentencePieceTokenizer.train(["a b c"] * 10, 50000, "bpe")


def test_a_given_model_has_its_own_end_of_document(tmp_path: Path) -> None:
    import io

    import sentencepiece

    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=stream, vocab_size=60, byte_fallback=False, minloglevel=2
    )
    with pytest.raises(InputError, match=r"has no control symbol <\|endoftext\|>.*tokenizer\.eod: <s>, </s>"):
        SentencePieceTokenizer(stream.getvalue())
    tokenizer = SentencePieceTokenizer(stream.getvalue(), eod="</s>")
    assert tokenizer.eod == 2
    assert 2 not in tokenizer.encode("the sea </s> the moon")
    assert tokenizer.decode([*tokenizer.encode("the sea"), 2]) == "the sea</s>"
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).identity == tokenizer.identity
    assert tokenizer.identity != SentencePieceTokenizer(stream.getvalue(), eod="<s>").identity
