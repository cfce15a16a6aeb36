import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shards import (
    SCHEMA,
    Document,
    ShardWriter,
    read_batches,
    read_documents,
    read_table,
    with_attributes,
    write_shard,
)
from megatron_nlg.config.errors import InputError

texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(documents=st.lists(st.builds(Document, texts, texts, texts, st.none() | texts, st.none() | texts)))
def test_documents_survive_and_bytes_repeat(
    tmp_path_factory: pytest.TempPathFactory, documents: list[Document]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("a.parquet", "b.parquet"):
        write_shard(folder / name, documents)
    assert list(read_documents(folder / "a.parquet")) == documents
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()
    assert read_table(folder / "a.parquet").schema.equals(SCHEMA)


def test_damaged_shard_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [Document("1", "x", "s")])
    data = (tmp_path / "a.parquet").read_bytes()
    for content in (data[:-10], b""):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.parquet: not a readable shard"):
            read_table(tmp_path / "a.parquet")


def batch_of(*documents: Document) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([d._asdict() for d in documents], SCHEMA)


def test_a_shard_written_batch_by_batch(tmp_path: Path) -> None:
    documents = [Document(str(i), "x" * i, "s", None, "{}" if i % 2 else None) for i in range(10)]
    with ShardWriter(tmp_path / "a.parquet") as writer:
        for start in range(0, 10, 3):
            writer.write(batch_of(*documents[start : start + 3]))
        assert not (tmp_path / "a.parquet").exists()
    assert list(read_documents(tmp_path / "a.parquet")) == documents
    assert [b.num_rows for b in read_batches(tmp_path / "a.parquet", ["id"])] == [10]
    with ShardWriter(tmp_path / "empty.parquet"):
        pass
    assert list(read_batches(tmp_path / "empty.parquet")) == []


def test_nothing_is_left_of_a_shard_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path / "a.parquet") as writer:
        writer.write(batch_of(Document("1", "x", "s")))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_attributes_are_added_or_replaced() -> None:
    old = [None, "{}", '{"a": [1]}', '{"a": 1, "score": 9}']
    batch = batch_of(*(Document(str(i), "x", "s", None, text) for i, text in enumerate(old)))
    values = {"score": pa.array(["0.5", None, "0.25", "1"]), "label": pa.array(['"en"', None, None, '"de"'])}
    new = with_attributes(batch, values).column("attributes").to_pylist()
    assert [text and json.loads(text) for text in new] == [
        {"score": 0.5, "label": "en"}, None, {"a": [1], "score": 0.25}, {"a": 1, "score": 1, "label": "de"}
    ]  # fmt: skip
    assert (new[3] or "").count("score") == 1
