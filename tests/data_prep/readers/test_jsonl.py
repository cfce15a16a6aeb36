import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.readers import jsonl
from data_prep.readers.base import InputFile
from data_prep.readers.streams import count_lines
from data_prep.recipe import Source
from data_prep.shards import Document
from tests.data_prep.readers.material import read, read_range


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"text": "one", "url": "http://a", "n": 1, "b": [2]}, {"text": "two"}]
    documents, rejects = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)).encode() + b"\n\n", "jsonl")
    assert documents == [
        Document("s/a.jsonl:1", "one", "s", "http://a", '{"b": [2], "n": 1}'),
        Document("s/a.jsonl:2", "two", "s"),
    ]
    assert not rejects


def test_bad_json_lines_are_named_and_reading_goes_on(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "good"}',
        b'{"text": "cut',
        b"[1]",
        b'{"body": "x"}',
        b'{"text": 7}',
        b'{"text": " \\n"}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
        b'{"text": "good too"}',
        b'{"text": "' + b"x" * 200 + b'"}',
    ]
    documents, rejects = read(tmp_path / "a.jsonl", b"\r\n".join(lines), "jsonl", max_document_bytes=199)
    assert [(item.line, item.reason) for item in rejects] == [
        (2, "invalid_json"),
        (3, "not_an_object"),
        (4, "missing_text"),
        (5, "wrong_type"),
        (6, "empty"),
        (7, "invalid_utf8"),
        (8, "invalid_unicode"),
        (9, "invalid_json"),
        (11, "too_large"),
    ]
    assert [d.text for d in documents] == ["good", "good too"]
    assert rejects[2].detail == "no key 'text'; it has 'body'"
    assert "0xff at column 11" in rejects[5].detail


def test_other_text_key_and_gzip(tmp_path: Path) -> None:
    data = gzip.compress(b'{"body": "x"}\n{"body": "y"}\n')
    documents, _ = read(tmp_path / "a.jsonl.gz", data, "jsonl", text_key="body")
    assert [d.text for d in documents] == ["x", "y"]
    documents, (last,) = read(tmp_path / "b.jsonl.gz", data[:-9], "jsonl", text_key="body")
    assert (last.reason, last.file) == ("damaged_gzip", "b.jsonl.gz")
    assert [d.text for d in documents] == ["x", "y"]  # what came before the damage
    _, (last,) = read(tmp_path / "c.jsonl.gz", b"plain", "jsonl")
    assert last.reason == "damaged_gzip"


def test_zstd(tmp_path: Path) -> None:
    lines = b"".join(b'{"text": "%d"}\n' % random.Random(i).randrange(10**300) for i in range(20_000))
    frame = pa.compress(lines, codec="zstd", asbytes=True)
    documents, rejects = read(tmp_path / "a.jsonl.zst", frame + frame, "jsonl")
    assert (len(documents), rejects) == (40_000, [])
    documents, (last,) = read(tmp_path / "b.jsonl.zst", frame[: len(frame) // 2], "jsonl")
    assert last.reason == "damaged_zstd"
    assert len(documents) > 5000
    _, (last,) = read(tmp_path / "c.jsonl.zst", b"plain", "jsonl")
    assert last.reason == "damaged_zstd"


def test_a_line_too_long_to_hold_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_LONG_LINE", 3000)
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 100)
    long = b'{"text": "' + b"x" * 5000 + b'"}\n'
    good = b'{"text": "good"}\n'
    for data, lines in ((good + long + good + long, (2, 4)), (long + good * 9, (1,)), (long[:-1], (1,))):
        documents, rejects = read(tmp_path / "a.jsonl", data, "jsonl", max_document_bytes=50)
        assert [(r.line, r.reason) for r in rejects] == [(line, "too_large") for line in lines]
        assert len(documents) == data.count(good)


def fast_is_exact(block: bytes) -> bool:
    """Whether the fast way took the block; whenever it does, both ways must agree."""
    source = Source(name="s", paths=("x",))
    exact = jsonl.read_lines(block, "f", 5, source)
    fast = jsonl._fast(jsonl.BlockParser("text"), block, "f", 5, source)
    if fast is None:
        return False
    assert not exact.rejects
    assert fast.documents.to_pylist() == exact.documents.to_pylist()
    return True


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["2019-04-25T12:57:54Z", "null", ': null, "', 1, 1.0, -0.0, 2**63, 2**63 - 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "é\""]), inner),
    max_leaves=5,
)  # fmt: skip
rows = st.fixed_dictionaries(
    {"text": st.text(min_size=1) | values}, optional={"url": st.text() | values, "n": values, "m": values}
)
mild = st.fixed_dictionaries(
    {"text": st.text(min_size=1).map(lambda text: "." + text)},
    optional={
        "url": st.text(max_size=3),
        "n": st.integers(-(2**63), 2**63 - 1),
        "x": st.floats() | st.none(),
        "s": st.text() | st.none(),
        "m": st.fixed_dictionaries({}, optional={"a": st.booleans(), "b": st.lists(st.integers(0, 9))}),
    },
)


@settings(deadline=None, max_examples=150)
@given(
    lines=st.lists(rows, min_size=1) | st.lists(mild, min_size=1) | st.lists(st.dictionaries(st.text(), values)),
    ascii=st.booleans(),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_both_ways_agree_on_objects(lines: list[Any], ascii: bool, ends: str) -> None:
    fast_is_exact(ends.join(json.dumps(row, ensure_ascii=ascii) for row in lines).encode("utf-8", "replace"))


@settings(deadline=None, max_examples=150)
@given(
    pieces=st.lists(
        st.sampled_from([b'{"text":', b'"a"', b"}", b"{", b"\n", b"\r\n", b" ", b",", b'"n":', b"1", b"null", b"[",
                         b"]", b'{"text":"a"}\n', b"\xff", b"\\ud83d", b"\\ude00", b"1.0", b"-0", b"1e3", b"\x00"])
    )
)  # fmt: skip
def test_both_ways_agree_on_rubble(pieces: list[bytes]) -> None:
    fast_is_exact(b"".join(pieces))


def test_usual_lines_take_the_fast_way() -> None:
    row = {"text": 'Ünï "code"', "url": "http://x", "meta": {"set": "Pile-CC"}, "timestamp": "2019-04-25T12:57:54Z"}
    more = {"score": 0.25, "tags": ["a", "b"], "n": 3}
    assert fast_is_exact("".join(json.dumps(row | more) + "\n" for _ in range(9)).encode())
    assert fast_is_exact("".join(json.dumps(row | ({} if i % 2 else more)) + "\n" for i in range(9)).encode())
    assert fast_is_exact(b'{"text": "a", "x": null}\n{"text": "b"}')


@pytest.mark.parametrize("value", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000])
def test_deep_nesting_is_a_reject_and_no_crash(tmp_path: Path, value: bytes) -> None:
    data = b'{"text": "a", "x": 1}\n' * 20 + b'{"text": "b", "x": ' + value + b"}\n"
    documents, (reject,) = read(tmp_path / "a.jsonl", data, "jsonl")
    assert (len(documents), reject.line, reject.reason) == (20, 21, "invalid_json")


@settings(deadline=None)
@given(
    lines=st.lists(st.sampled_from([b'{"text": "a"}', b'{"text": "bcd", "n": 1}', b"{", b"", b" "])),
    size=st.integers(1, 40),
    end=st.booleans(),
)
def test_ranges_of_a_file_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, end: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges.jsonl"
    data = b"\n".join(lines) + (b"\n" if end else b"")
    whole = read(path, data, "jsonl")
    documents, rejects, line = [], [], 1
    for start in range(0, len(data), size):
        stop = min(start + size, len(data))
        part = read_range(InputFile(str(path), path.name, "jsonl", start, stop, line))
        line += count_lines(path, start, stop)
        documents += part[0]
        rejects += part[1]
    assert (documents, rejects) == whole
