from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shards import SCHEMA, Document, read_documents, read_table, write_shard
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
