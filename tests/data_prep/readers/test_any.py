from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data_prep.readers.material import read


@settings(deadline=None, max_examples=100)
@given(data=st.binary() | st.text().map(str.encode), kind=st.sampled_from(["jsonl", "text", "html", "parquet", "warc"]))
def test_any_bytes_become_documents_or_rejects(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, kind: str
) -> None:
    documents, rejects = read(tmp_path_factory.getbasetemp() / "any.x", data, kind)
    assert all(d.text.strip() for d in documents)
    assert all(r.reason for r in rejects)


def test_unknown_ending_is_a_reject(tmp_path: Path) -> None:
    _, (item,) = read(tmp_path / "x.bin", b"123", None)
    assert (item.reason, item.size) == ("unknown_ending", 3)


def test_a_file_that_went_away_is_a_reject(tmp_path: Path) -> None:
    for kind in ("text", "jsonl", "parquet", "warc", "html"):
        _, (item,) = read(tmp_path / "gone", None, kind)
        assert item.reason in ("unreadable", "damaged_parquet")
