import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.readers.text import InputFile, Reject, find_files, read_file, units
from data_prep.recipe import Recipe, Source, TokenizerRecipe
from data_prep.shards import Document


def recipe(root: Path, **source: Any) -> Recipe:
    return Recipe(
        out=str(root / "out"),
        root=str(root),
        sources=(Source(**{"name": "s", **source}),),
        tokenizer=TokenizerRecipe(kind="char"),
    )


def read(path: Path, data: bytes, kind: str = "jsonl", **source: Any) -> list[Document | Reject]:
    path.write_bytes(data)
    return list(read_file(InputFile(str(path), path.name, kind), Source(name="s", paths=("x",), **source)))


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"text": "one", "url": "http://a", "n": 1, "b": [2]}, {"text": "two"}]
    items = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)).encode() + b"\n\n")
    assert items == [
        Document("s/a.jsonl:1", "one", "s", "http://a", '{"b": [2], "n": 1}'),
        Document("s/a.jsonl:2", "two", "s"),
    ]


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
    ]
    items = read(tmp_path / "a.jsonl", b"\r\n".join(lines))
    assert [(item.line, item.reason) for item in items if isinstance(item, Reject)] == [
        (2, "invalid_json"),
        (3, "not_an_object"),
        (4, "missing_text"),
        (5, "wrong_type"),
        (6, "empty"),
        (7, "invalid_utf8"),
        (8, "invalid_unicode"),
        (9, "invalid_json"),
    ]
    assert [item.text for item in items if isinstance(item, Document)] == ["good", "good too"]
    assert items[3].detail == "no key 'text'; it has 'body'"
    assert "0xff at column 11" in items[6].detail


def test_other_text_key_and_gzip(tmp_path: Path) -> None:
    data = gzip.compress(b'{"body": "x"}\n{"body": "y"}\n')
    assert [d.text for d in read(tmp_path / "a.jsonl.gz", data, text_key="body")] == ["x", "y"]
    *_, last = read(tmp_path / "b.jsonl.gz", data[:-12])
    assert (last.reason, last.file) == ("damaged_gzip", "b.jsonl.gz")
    (last,) = read(tmp_path / "c.jsonl.gz", b"plain")
    assert last.reason == "damaged_gzip"


def test_text_splits(tmp_path: Path) -> None:
    text = "one\ntwo\n\n \nthrée\n\n".encode()
    (whole,) = read(tmp_path / "a.txt", text, "text")
    assert whole == Document("s/a.txt", text.decode(), "s")
    assert [(d.id, d.text) for d in read(tmp_path / "a.txt", text, "text", split="blank_lines")] == [
        ("s/a.txt:1", "one\ntwo\n"),
        ("s/a.txt:5", "thrée\n"),
    ]
    parts = read(tmp_path / "a.txt", b"abc\ndefgh\nij", "text", split="parts", parts=3)
    assert [d.text for d in parts] == ["abc\n", "defg", "h\nij"]
    parts = read(tmp_path / "a.txt", b"abc\ndefgh\nij", "text", split="parts_at_lines", parts=3)
    assert [d.text for d in parts] == ["abc\n", "defgh\nij"]


def test_invalid_utf8_names_the_line_and_spares_other_paragraphs(tmp_path: Path) -> None:
    data = b"one\n\ntwo\nb\xffd\n\nthree"
    (reject,) = read(tmp_path / "a.txt", data, "text")
    assert (reject.line, reject.reason, reject.size) == (4, "invalid_utf8", len(data))
    first, reject, last = read(tmp_path / "a.txt", data, "text", split="blank_lines")
    assert (first.text, reject.line, last.text) == ("one\n", 4, "three")
    (reject,) = read(tmp_path / "a.txt", b" \n", "text")
    assert reject.reason == "empty"


@settings(deadline=None)
@given(text=st.text(), parts=st.integers(1, 12), kind=st.sampled_from(["parts", "parts_at_lines"]))
def test_parts_lose_nothing(tmp_path_factory: pytest.TempPathFactory, text: str, parts: int, kind: str) -> None:
    path = tmp_path_factory.getbasetemp() / "parts.txt"
    items = read(path, text.encode(), "text", split=kind, parts=parts)
    if text.removeprefix("\ufeff").strip():
        assert "".join(item.text for item in items) == text.removeprefix("\ufeff")
        assert len(items) <= parts


@settings(deadline=None, max_examples=200)
@given(data=st.binary() | st.text().map(str.encode), kind=st.sampled_from(["jsonl", "text"]))
def test_any_bytes_become_documents_or_rejects(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, kind: str
) -> None:
    for item in read(tmp_path_factory.getbasetemp() / "any.x", data, kind):
        if isinstance(item, Document):
            assert item.text.strip()
            item.text.encode()
        else:
            assert item.reason


def test_finding_files(tmp_path: Path) -> None:
    names = ["b/2.txt", "b/1.jsonl", "b/.hidden.txt", "b/c/3.md", "b/c/x.bin", ".git/config.txt", "plain", "out/o.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    def find(*paths: str, **more: Any) -> list[tuple[str, str | None]]:
        made = recipe(tmp_path, paths=paths, **more)
        found, problems = find_files(made, made.sources[0])
        assert not problems
        return [(file.name, file.format) for file in found]

    assert find("b") == [("b/1.jsonl", "jsonl"), ("b/2.txt", "text"), ("b/c/3.md", "text"), ("b/c/x.bin", None)]
    assert find("plain", "b/c/3.md", "b/*.txt") == [("plain", "text"), ("b/c/3.md", "text"), ("b/2.txt", "text")]
    assert find("b/**/*.md", "b/2.txt", "b/2.txt") == [("b/c/3.md", "text"), ("b/2.txt", "text")]
    assert [name for name, _ in find(".", format="text")] == ["plain", "b/1.jsonl", "b/2.txt", "b/c/3.md", "b/c/x.bin"]
    assert find(str(tmp_path / "plain")) == [("plain", "text")]


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.txt").write_text("x")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")
    made = recipe(tmp_path, paths=("a",))
    assert [file.name for file in find_files(made, made.sources[0])[0]] == ["a/link/x.txt"]


@pytest.mark.parametrize(("paths", "message"), [(("none", "no*"), "matches nothing"), (("empty",), "no file below")])
def test_missing_paths_are_problems(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    (tmp_path / "empty").mkdir()
    made = recipe(tmp_path, paths=paths)
    _, problems = find_files(made, made.sources[0])
    assert len(problems) == len(paths)
    assert all(message in str(p) and p.key == "sources.s.paths" for p in problems)


def test_unknown_ending_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"123")
    (item,) = read_file(InputFile(str(tmp_path / "x.bin"), "x.bin", None), Source(name="s", paths=("x",)))
    assert (item.reason, item.size) == ("unknown_ending", 3)


def test_units_depend_on_sizes_alone(tmp_path: Path) -> None:
    files = []
    for i, size in enumerate([5, 5, 30, 1]):
        (tmp_path / str(i)).write_bytes(b"x" * size)
        files.append(InputFile(str(tmp_path / str(i)), str(i), "text"))
    assert [[f.name for f in run] for run in units(files, 10)] == [["0", "1"], ["2"], ["3"]]
    assert list(units([], 10)) == []
