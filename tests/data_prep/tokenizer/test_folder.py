import json
from pathlib import Path

import pytest

from data_prep.tokenizer import BytePairTokenizer, CharacterTokenizer, SentencePieceTokenizer, load_tokenizer
from megatron_nlg.config.errors import InputError
from tests.data_prep.tokenizer.texts import TEXTS


def test_damaged_folders(tmp_path: Path) -> None:
    byte_pair = BytePairTokenizer.train(TEXTS, 330)
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
    with pytest.raises(InputError, match="kind is one of bpe, huggingface, sentencepiece, char, not 'pickle'"):
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
