"""Collections made of local texts: what is a passage, what a query, and that they are read again as written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.analysis.probing.build import from_documents, from_rows, passages_of, write
from megatron_nlg.analysis.probing.collection import read_collection
from megatron_nlg.config.errors import InputError

MARKDOWN = """# Cats
Cats are small animals that sleep for most of the day. They hunt mice at night, and at noon they rest again.

They purr when they are pleased with themselves, which is rather often the case.

## Dogs
Dogs are animals that bark at the postman every day. People keep them as they keep nothing else in the world.
"""


def test_headings_are_queries_of_what_is_below(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(MARKDOWN)
    found = from_documents([tmp_path / "a.md"], "headings", 25, 10, 0)
    assert found.queries == ["Cats", "Dogs"] and len(found.passages) == 3
    assert found.judged == {0: {0: 1, 1: 1}, 1: {2: 1}}
    write(found, tmp_path / "out")
    again = read_collection(tmp_path / "out", 100)
    assert (again.passages, again.queries, again.judged) == (found.passages, found.queries, found.judged)


def test_a_first_sentence_is_taken_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "One little sentence here. " + "More words follow it. " * 9}))
    found = from_documents([tmp_path / "a.jsonl"], "first", 100, 10, 0)
    assert found.queries == ["One little sentence here."] and found.passages[0].startswith("More words")
    assert found.judged == {0: {0: 1}}


def test_known_items_are_drawn_by_the_seed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(MARKDOWN)
    found, again, other = (from_documents([tmp_path / "a.txt"], "known", 25, 2, seed) for seed in (3, 3, 4))
    assert found.queries == again.queries != other.queries
    for number, query in enumerate(found.queries):
        (passage,) = found.judged[number]
        assert set(query.split()) <= set(found.passages[passage].lower().replace(",", "").replace(".", "").split())


def test_rows_are_judged_by_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("q\tp\tlabel\nwho\tyou  do\tyes\nwho\tnobody\tno\nwhat\tyou do\tyes\n")
    found = from_rows(tmp_path / "a.tsv", "q", "p", "label=yes")
    assert found.queries == ["who", "what"] and found.passages == ["you do", "nobody"]
    assert found.judged == {0: {0: 1, 1: 0}, 1: {0: 1}}
    with pytest.raises(InputError, match="line 2: has no text, but q, p, label"):
        from_rows(tmp_path / "a.tsv", "q", "text", None)
    with pytest.raises(InputError, match="--relevant label: COLUMN=VALUE"):
        from_rows(tmp_path / "a.tsv", "q", "p", "label")


def test_without_queries_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A text without any heading, and yet with more than just ten words in it.")
    with pytest.raises(InputError, match="1 passages and 0 queries"):
        write(from_documents([tmp_path / "a.txt"], "headings", 100, 1, 0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(paragraphs=st.lists(st.text(alphabet="aB. \n", max_size=200), max_size=4), words=st.integers(10, 30))
def test_passages_lose_only_short_ones(paragraphs: list[str], words: int) -> None:
    kept = " ".join(passages_of(paragraphs, words)).split()
    every = " ".join(paragraphs).split()
    rest = iter(every)
    assert all(word in rest for word in kept)  # in their order
    assert all(len(passage.split()) >= 10 for passage in passages_of(paragraphs, words))
