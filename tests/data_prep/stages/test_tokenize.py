import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.jobs import Done
from data_prep.shards import Document, write_shard
from data_prep.stages import tokenize
from data_prep.stages.tokenize import fast_engine, tokenize_unit
from data_prep.tokenizer import BytePairTokenizer, CharacterTokenizer, Encoded
from data_prep.tokenizer.fast import GigatokenEncoder
from megatron_nlg.config.errors import InputError
from tests.data_prep.material import sentence

TEXTS = ["", *(sentence(seed, 30) + " \u088f naïve 日本" * (seed % 3 == 0) for seed in range(40)), ""]


@pytest.fixture
def documents(tmp_path: Path) -> Done:
    names = []
    for i in range(0, len(TEXTS), 15):
        names.append(f"s-{i}.parquet")
        write_shard(tmp_path / names[-1], [Document(str(i), text, "s") for text in TEXTS[i : i + 15]])
    return Done("dedup", "", tmp_path, {"shards": {"s": names, "none": []}}, was_done=True)


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.train(TEXTS, 330)


@pytest.mark.parametrize("append_eod", [True, False])
def test_both_engines_and_any_batches_write_the_same_bytes(
    documents: Done,
    tokenizer: BytePairTokenizer,
    tmp_path: Path,
    append_eod: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    name = documents.summary["shards"]["s"][0]
    found = {}
    for batch_bytes, fast in ((1 << 20, False), (1 << 20, True), (1, True), (100, True)):
        monkeypatch.setattr(tokenize, "_BATCH_BYTES", batch_bytes)
        task = (tmp_path / name, str(tmp_path / "tokenizer"), tokenizer.identity, append_eod, fast)
        result = tokenize_unit(tmp_path, "a", task)
        assert result["bytes"] == sum(len(text.encode()) for text in TEXTS[:15])
        assert sum(result["lengths"]["bytes"]) == sum(result["lengths"]["tokens"]) == 15
        assert result["lengths"]["bytes"][0] == 1  # the empty one
        found[batch_bytes, fast] = (tmp_path / "a.bin").read_bytes(), (tmp_path / "a.idx").read_bytes()
    assert len(set(found.values())) == 1
    end = [tokenizer.eod] if append_eod else []
    expected = np.concatenate([np.array(tokenizer.encode(text) + end, np.uint16) for text in TEXTS[:15]])
    assert next(iter(found.values()))[0] == expected.tobytes()


def test_gigatoken_is_the_default_where_its_ids_are_the_same(
    documents: Done, tokenizer: BytePairTokenizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_engine("auto", tokenizer, documents)
    assert fast_engine("gigatoken", tokenizer, documents)
    assert not fast_engine("huggingface", tokenizer, documents)
    assert capsys.readouterr().err == ""

    def wrong(self: GigatokenEncoder, texts: Any) -> Encoded:
        ids = tokenizer.encode_batch(texts)
        return ids._replace(ids=ids.ids + 1)

    monkeypatch.setattr(GigatokenEncoder, "encode_batch", wrong)
    assert not fast_engine("auto", tokenizer, documents)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tokenize: Hugging Face's tokenizers encode, not gigatoken: its ids of a sample ")
    with pytest.raises(InputError, match=r"tokenize\.engine: gigatoken can't be used: its ids.*set it to auto"):
        fast_engine("gigatoken", tokenizer, documents)


def test_without_gigatoken(
    documents: Done, tokenizer: BytePairTokenizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not fast_engine("auto", CharacterTokenizer("ab"), documents)
    assert capsys.readouterr().err == ""  # no other engine is expected
    with pytest.raises(InputError, match="tokenizers of kind char"):
        fast_engine("gigatoken", CharacterTokenizer("ab"), documents)
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    assert not fast_engine("auto", tokenizer, documents)
    assert "gigatoken is not installed" in capsys.readouterr().err
