"""Rankers of a collection, and what is left to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_nlg.analysis.probing import study
from megatron_nlg.analysis.probing.collection import Collection
from megatron_nlg.analysis.probing.example import Example, ProbingSet
from megatron_nlg.generation.ledger import Ledger


def test_rankers_find_what_is_relevant_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Collection([f"word{i} some text" for i in range(20)], [str(i) for i in range(20)])
    found.queries, found.query_ids = ["word3 text", "word7", "unjudged"], ["a", "b", "c"]
    found.judge(0, 3, 1)
    found.judge(1, 8, 1)
    found.judge(2, 1, 0)
    ledger = Ledger(tmp_path / "rows.jsonl", {})
    ledger.open()
    rows = study.rank(found, ledger)
    assert [row["ranker"] for row in rows] == ["TF-IDF", "BM25 (robertson)", "BM25 (lucene)"]
    assert all(row["map"] == row["mrr"] == 0.5 for row in rows)  # of two queries one
    monkeypatch.setattr(study, "evaluate", None)
    assert study.rank(found, ledger) == rows
    assert study.rank(Collection(["a"], ["0"], ["a"], ["0"]), ledger) == []


def test_what_is_missing(tmp_path: Path) -> None:
    sets = [ProbingSet(name, ("0", "1"), [Example("a", ((0, 1),), 0, "a")], "") for name in ("one", "two")]
    (tmp_path / "about.json").write_text(json.dumps({"layers": 2}))
    ledger = Ledger(tmp_path / "rows.jsonl", {})
    ledger.open()
    for key in ("m one linear 0", "m one linear 1", "m two linear 0", "m one mix mix"):
        ledger.append({"key": key})
    models = {"m": tmp_path}

    def names(*kinds: study.Kind) -> list[str]:
        return [each.name for each in study.missing(models, sets, kinds, ledger)["m"]]

    assert names("linear") == ["two"] and names("linear", "mix") == ["two"]
    assert names("multi") == ["one", "two"]
    ledger.append({"key": "m two linear 1"})
    assert names("linear") == []
    assert study.order(models, sets, ["linear", "mix"], [{"key": "ranker"}]) == [
        "ranker", "m one linear 0", "m one linear 1", "m two linear 0", "m two linear 1",
        "m one mix mix", "m two mix mix",
    ]  # fmt: skip
