"""Labelled files as they are read: every value comes back, everything broken is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.analysis.probing.lines import columns, named_rows, objects
from megatron_nlg.config.errors import InputError

CELL = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff"), max_size=12)


@given(rows=st.lists(st.tuples(CELL, CELL), max_size=6), ending=st.sampled_from(["\n", "\r\n"]))
def test_columns_come_back(rows: list[tuple[str, str]], ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.tsv"
    path.write_bytes("".join(f"{a}\t{b}{ending}" for a, b in rows).encode())
    assert [(row.fields["a"], row.fields["b"]) for row in columns(path, ("a", "b"))] == rows


@given(rows=st.lists(st.dictionaries(CELL, CELL | st.integers() | st.booleans() | st.none()), max_size=5))
def test_objects_come_back_packed(rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert [row.fields for row in named_rows(path)] == rows


def test_a_head_names_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("\ufeffscore\ttext\n0.5\tone\n")
    (row,) = named_rows(path)
    assert row.number("score") == 0.5 and row.text("sentence", "text") == "one" and row.where.endswith("line 2")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1}\n{"a": \n', "line 2: broken JSON"),
        (b"[1]\n", "line 1: a JSON object is expected"),
        (b'{"a": 1}\n\xff\n', "line 2: is not UTF-8 at byte 0"),
        (b'{"b": 1}\n', "line 1: has no a, but b"),
        (b'{"a": " "}\n', "line 1: a is ' '; a text is expected"),
        (b'{"a": ["x"]}\n', r"line 1: a is \['x'\]; a text is expected"),
    ],
)
def test_what_is_broken_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        [row.text("a") for row in objects(path)]


@pytest.mark.parametrize("value", ["nan", "inf", "x", None, ""])
def test_numbers_are_finite(value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"a": value}))
    (row,) = objects(path)
    with pytest.raises(InputError, match=r"a is .* number is expected"):
        row.number("a")
    with pytest.raises(InputError, match="whole number from 0"):
        row.offset("a")
    with pytest.raises(InputError, match="one of yes, no"):
        row.one_of({"yes": 1, "no": 0}, "a")


def test_torn_and_missing_files(tmp_path: Path) -> None:
    torn = tmp_path / "a.tsv.gz"
    torn.write_bytes(gzip.compress(b"a\tb\n" * 1000)[:-9])
    with pytest.raises(InputError, match="compression is damaged"):
        list(columns(torn, ("a", "b")))
    with pytest.raises(InputError, match="No such file"):
        list(columns(tmp_path / "b.tsv", ("a", "b")))
    (tmp_path / "c.tsv").write_text("a\tb\nc\n")
    with pytest.raises(InputError, match="line 2: has 1 columns, not 2"):
        list(columns(tmp_path / "c.tsv", ("a", "b")))
