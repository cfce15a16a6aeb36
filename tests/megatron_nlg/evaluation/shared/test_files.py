"""Tables in published formats: read back whatever they hold, and broken ones named by file and line."""

from __future__ import annotations

import csv
import io
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shared.files import comma_separated, read_text, tab_separated

CELL = st.text(st.characters(exclude_characters="\t\r\n\ufeff", codec="utf-8"))


@given(st.lists(st.tuples(CELL, CELL.filter(bool)), max_size=5), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_tab_separated(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], packed: bool, end: str
) -> None:
    data = end.join(["a\tb", *("\t".join(row) for row in rows), ""]).encode()
    path = tmp_path_factory.mktemp("t") / ("t.tsv.xz" if packed else "t.tsv")
    path.write_bytes(lzma.compress(data) if packed else data)
    found = list(tab_separated(path, ("b",)))
    assert [(row["a"], row["b"]) for _, row in found] == rows
    assert [where for where, _ in found] == [f"{path}, line {number}" for number in range(2, len(rows) + 2)]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\ufeff\0\r")), CELL), max_size=5))
def test_comma_separated(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("", "b"), *rows])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    assert [(row[""], row["b"]) for _, row in comma_separated(path, ("b",))] == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", b"a\tc\n1\t2\n", r"x.tsv, line 1: has no column 'b', but a, c; give"),
        ("x.tsv", b"", r"line 1: has no column 'a', but nothing"),
        ("x.tsv", b"a\tb\n1\t2\n1\n", "x.tsv, line 3: has 1 columns, and line 1 names 2; mend"),
        ("x.tsv", b"a\tb\n\xff\t2\n", "is not UTF-8 at byte 4"),
        ("x.tsv.xz", b"a\tb\n", "is not a whole .xz file"),
        ("x.tsv.xz", lzma.compress(b"a\tb\n1\t2\n")[:-9], "is not a whole .xz file"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(tab_separated(tmp_path / name, ("a", "b")))


def test_broken_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,2\n"open,3\n')
    with pytest.raises(InputError, match="line 3: is not CSV"):
        list(comma_separated(path, ("a",)))
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(InputError, match="line 3: has 3 columns, and line 1 names 2"):
        list(comma_separated(path, ("a",)))
    with pytest.raises(InputError, match="none: No such file"):
        read_text(tmp_path / "none")
