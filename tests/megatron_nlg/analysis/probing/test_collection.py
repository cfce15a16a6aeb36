"""One collection in every layout, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_nlg.analysis.probing.collection import Collection, read_collection
from megatron_nlg.config.errors import InputError

PASSAGES = {"p1": "the cat sat on the mat", "p2": "dogs bark", "p3": "birds sing"}
QUERIES = {"q1": "where did the cat sit", "q2": "what do dogs do"}
JUDGED = {0: {0: 1, 2: 0}, 1: {1: 2}}


def ms_marco(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "collection.tsv").write_text("".join(f"{i}\t{text}\n" for i, text in PASSAGES.items()))
    (folder / "queries.dev.tsv").write_text("".join(f"{i}\t{text}\n" for i, text in QUERIES.items()))
    (folder / "qrels.dev.tsv").write_text("q1\t0\tp1\t1\nq1\t0\tp3\t0\nq9\t0\tp1\t1\nq2 0 p2 2\n")
    return folder


def test_ms_marco(tmp_path: Path) -> None:
    found = read_collection(ms_marco(tmp_path), 4)
    assert found == Collection(
        ["the cat sat on", "dogs bark", "birds sing"], list(PASSAGES), list(QUERIES.values()), list(QUERIES), JUDGED
    )


def test_json_lines_with_titles(tmp_path: Path) -> None:
    rows = [{"_id": i, "title": "Animals" if i == "p1" else "", "text": text} for i, text in PASSAGES.items()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text(
        "".join(json.dumps({"id": i, "query": text}) + "\n" for i, text in QUERIES.items())
    )
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp1\t1\nq1\tp3\t0\nq2\tp2\t2\n")
    found = read_collection(tmp_path, 100)
    assert found.passages[0] == "Animals. the cat sat on the mat" and found.judged == JUDGED
    (tmp_path / "qrels" / "test.tsv").unlink()
    (tmp_path / "qrels").rmdir()
    grades = [("q1", "p1", 1), ("q1", "p3", 0), ("q2", "p2", 2)]
    (tmp_path / "qrels.jsonl").write_text(
        "".join(json.dumps({"query": q, "passage": p, "grade": g}) + "\n" for q, p, g in grades)
    )
    assert read_collection(tmp_path, 100).judged == JUDGED


def test_triples_of_ids_and_of_texts(tmp_path: Path) -> None:
    ms_marco(tmp_path)
    (tmp_path / "qrels.dev.tsv").unlink()
    (tmp_path / "triples.tsv").write_text("q1\tp1\tp2\nq1\tp1\tp3\nq7\tp1\tp3\n")
    assert read_collection(tmp_path, 100).judged == {0: {0: 1, 1: 0, 2: 0}}
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "triples.train.tsv").write_text("a query\tright one\twrong one\na query\tright one\tother\n")
    found = read_collection(texts, 100)
    assert found.passages == ["right one", "wrong one", "other"] and found.queries == ["a query"]
    assert found.judged == {0: {0: 1, 1: 0, 2: 0}}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("collection.tsv", "p1\ta\nno tab\n", "line 2: has 1 columns, not 2"),
        ("collection.tsv", "p1\ta\np1\tb\n", "line 2: id 'p1' is there twice"),
        ("collection.tsv", "p1\t \n", "line 1: text is ' '"),
        ("queries.dev.tsv", "", "has 3 passages and 0 queries"),
        ("qrels.dev.tsv", "q1\t0\tp9\t1\n", "line 1: passage is 'p9'; it must be the id of a passage"),
        ("qrels.dev.tsv", "q1\t0\tp1\t1\nq1\t0\tp1\tx\n", "line 2: grade is 'x'"),
        ("qrels.dev.tsv", "q1\t0\tp1\t1\nq1\n", "line 2: has 1 columns"),
    ],
)
def test_what_is_broken_is_named(file: str, text: str, said: str, tmp_path: Path) -> None:
    ms_marco(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=said):
        read_collection(tmp_path, 100)


def test_a_folder_without_a_collection(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no collection\.tsv"):
        read_collection(tmp_path, 100)
    with pytest.raises(InputError, match="is not a folder"):
        read_collection(tmp_path / "none", 100)
    (tmp_path / "collection.tsv").write_text("p1\ta\n")
    with pytest.raises(InputError, match=r"has no queries\.tsv"):
        read_collection(tmp_path, 100)
