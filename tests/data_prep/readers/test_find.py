from pathlib import Path
from typing import Any

import pytest

from data_prep.readers.base import InputFile
from data_prep.readers.find import find_files, units
from tests.data_prep.readers.material import recipe


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


def test_units_depend_on_sizes_alone(tmp_path: Path) -> None:
    files = []
    for i, size in enumerate([5, 5, 30, 1]):
        (tmp_path / str(i)).write_bytes(b"x" * size)
        files.append(InputFile(str(tmp_path / str(i)), str(i), "text"))
    assert [[f.name for f in run] for run in units(files, 10)] == [["0", "1"], ["2"], ["3"]]
    assert list(units([], 10)) == []


def test_large_json_lines_are_split_into_ranges(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * 25)
    (tmp_path / "b.txt").write_bytes(b"x")
    text, lines = InputFile(str(tmp_path / "b.txt"), "b", "text"), InputFile(str(tmp_path / "a.jsonl"), "a", "jsonl")
    runs = list(units([text, lines, text], 10))
    assert [(f.name, f.start, f.end) for run in runs for f in run] == [
        ("b", 0, None), ("a", 0, 10), ("a", 10, 20), ("a", 20, 25), ("b", 0, None)
    ]  # fmt: skip
    assert list(map(len, runs)) == [1] * 5
