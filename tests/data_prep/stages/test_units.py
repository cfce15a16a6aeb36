import json
from pathlib import Path

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset

from data_prep.jobs import Done
from data_prep.pipeline import find_inputs
from data_prep.readers.base import InputFile
from data_prep.recipe import Clean, Recipe, Source, TokenizerRecipe
from data_prep.shards import Document, read_documents, write_shard
from data_prep.stages.clean import clean_unit
from data_prep.stages.read import read_unit
from data_prep.stages.tokenize import join_unit, tokenize_unit
from data_prep.stages.tokenizer import sample
from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.config.errors import ConfigError, InputError


def test_reading_fills_shards_up_to_their_size(tmp_path: Path) -> None:
    rows = [{"text": "x" * 40} for _ in range(5)] + [{"text": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = Source(name="s", paths=("a.jsonl",))
    task = (source, [InputFile(str(tmp_path / "a.jsonl"), "a.jsonl", "jsonl")], 80)
    result = read_unit(tmp_path, "s-00000", task)
    assert result["shards"] == [f"s-00000-{i:03d}.parquet" for i in range(3)]
    assert [len(list(read_documents(tmp_path / name))) for name in result["shards"]] == [2, 2, 1]
    assert (result["tally"]["documents_in"], result["tally"]["documents_out"]) == (6, 5)
    (reject,) = map(json.loads, (tmp_path / "s-00000.rejects").read_text().splitlines())
    assert (reject["source"], reject["line"], reject["reason"]) == ("s", 6, "wrong_type")


def test_cleaning_counts_what_it_drops_and_keeps_the_rest_of_a_document(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    documents = [Document("1", "schÃ¶n \n", "s", "http://u", '{"n": 1}'), Document("2", "x", "s")]
    write_shard(tmp_path / "a.parquet", documents)
    result = clean_unit(tmp_path / "work", "a", (tmp_path / "a.parquet", Clean(min_characters=2)))
    assert list(read_documents(tmp_path / "work" / "a.parquet")) == [documents[0]._replace(text="schön")]
    assert result["tally"] == {
        "documents_in": 2,
        "bytes_in": len(documents[0].text.encode()) + 1,
        "documents_out": 1,
        "bytes_out": 6,
        "dropped": {"too_short": {"documents": 1, "bytes": 1}},
    }


def test_tokens_of_parts_join_in_order(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer("abc")
    tokenizer.save(tmp_path / "tokenizer")
    texts = [["abc", "a"], [], ["cc"]]
    for i, part in enumerate(texts):
        write_shard(tmp_path / f"{i}.parquet", [Document(str(j), text, "s") for j, text in enumerate(part)])
        argument = (tmp_path / f"{i}.parquet", str(tmp_path / "tokenizer"), tokenizer.identity, True, False)
        assert tokenize_unit(tmp_path, f"{i}.part", argument)["bytes"] == sum(map(len, part))
    meta = {"vocab_size": 4, "identity": tokenizer.identity}
    about = join_unit(tmp_path, "s", (["0.part", "1.part", "2.part"], meta, True))
    assert (about["documents"], about["tokens"], about["bin_bytes"], about["dtype"]) == (3, 9, 18, "uint16")
    dataset = IndexedDataset(str(tmp_path / "s"))
    expected = [[0, 1, 2, 3], [0, 3], [2, 2, 3]]
    for i, tokens in enumerate(expected):
        np.testing.assert_array_equal(dataset[i], tokens)


def test_a_training_sample_is_evenly_spread(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [Document(str(i), f"{i:02}", "s") for i in range(40)])
    done = Done("dedup", "", tmp_path, {"shards": {"s": ["a.parquet"]}, "sources": {"s": {"bytes_out": 80}}}, True)
    assert [int(text) for text in sample(done, 20)] == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    assert len(list(sample(done, None))) == len(list(sample(done, 10**9))) == 40


def test_all_missing_inputs_are_found_at_once(tmp_path: Path) -> None:
    sources = (Source(name="a", paths=("x",)), Source(name="b", paths=("y", "z")))
    recipe = Recipe(out="o", root=str(tmp_path), sources=sources, tokenizer=TokenizerRecipe(kind="char"))
    with pytest.raises(ConfigError) as caught:
        find_inputs(recipe)
    assert len(caught.value.problems) == 3
    for name in "xyz":
        (tmp_path / name).write_text("text")
    assert [file.name for file in find_inputs(recipe).files["b"]] == ["y", "z"]
    with pytest.raises(InputError, match=r"none/meta\.json: no such file"):
        find_inputs(recipe.model_copy(update={"tokenizer": TokenizerRecipe(load="none")}))
