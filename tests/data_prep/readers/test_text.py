from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shards import Document
from tests.data_prep.readers.material import read


def test_text_splits(tmp_path: Path) -> None:
    text = "one\ntwo\n\n \nthrée\n\n".encode()
    (whole,), _ = read(tmp_path / "a.txt", text, "text")
    assert whole == Document("s/a.txt", text.decode(), "s")
    documents, _ = read(tmp_path / "a.txt", text, "text", split="blank_lines")
    assert [(d.id, d.text) for d in documents] == [("s/a.txt:1", "one\ntwo\n"), ("s/a.txt:5", "thrée\n")]
    parts, _ = read(tmp_path / "a.txt", b"abc\ndefgh\nij", "text", split="parts", parts=3)
    assert [d.text for d in parts] == ["abc\n", "defg", "h\nij"]
    parts, _ = read(tmp_path / "a.txt", b"abc\ndefgh\nij", "text", split="parts_at_lines", parts=3)
    assert [d.text for d in parts] == ["abc\n", "defgh\nij"]


def test_invalid_utf8_names_the_line_and_spares_other_paragraphs(tmp_path: Path) -> None:
    data = b"one\n\ntwo\nb\xffd\n\nthree"
    _, (reject,) = read(tmp_path / "a.txt", data, "text")
    assert (reject.line, reject.reason, reject.size) == (4, "invalid_utf8", len(data))
    (first, last), (reject,) = read(tmp_path / "a.txt", data, "text", split="blank_lines")
    assert (first.text, reject.line, last.text) == ("one\n", 4, "three")
    _, (reject,) = read(tmp_path / "a.txt", b" \n", "text")
    assert reject.reason == "empty"


@pytest.mark.parametrize("split", ["file", "blank_lines"])
def test_too_large(tmp_path: Path, split: str) -> None:
    _, (reject,) = read(tmp_path / "a.txt", b"x" * 101, "text", max_document_bytes=100, split=split)
    assert (reject.reason, reject.size, reject.line) == ("too_large", 101, 1)
    (document,), _ = read(tmp_path / "a.txt", b"x" * 100, "text", max_document_bytes=100, split=split)
    assert len(document.text) == 100


@settings(deadline=None)
@given(text=st.text(), parts=st.integers(1, 12), kind=st.sampled_from(["parts", "parts_at_lines"]))
def test_parts_lose_nothing(tmp_path_factory: pytest.TempPathFactory, text: str, parts: int, kind: str) -> None:
    path = tmp_path_factory.getbasetemp() / "parts.txt"
    documents, _ = read(path, text.encode(), "text", split=kind, parts=parts)
    if text.removeprefix("\ufeff").strip():
        assert "".join(d.text for d in documents) == text.removeprefix("\ufeff")
        assert len(documents) <= parts
