"""Table, JSON and plot."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from megatron_nlg.evaluation.harness import own_tasks
from megatron_nlg.evaluation.results import CHANCE, Outcome, published, table, write

OUTCOMES = [
    Outcome("lambada", 0, False,
            {"perplexity": 51.25, "perplexity_stderr": 2.0, "acc": 0.5, "acc_stderr": 0.1, "documents": 20}, 0, 1.0),
    Outcome("hellaswag", 20, True, {"acc": 0.25, "acc_norm": 0.375, "acc_norm_stderr": 0.01, "documents": 8}, 3, 1.0),
]  # fmt: skip


def test_the_headline_is_the_accuracy_that_is_published() -> None:
    assert [outcome.headline for outcome in OUTCOMES] == [("acc", 0.5), ("acc_norm", 0.375)]


def test_table() -> None:
    console = Console(width=140)
    with console.capture() as got:
        console.print(table(OUTCOMES))
    rows = [line.split() for line in got.get().splitlines()[1:]]
    assert rows[0] == ["lambada", "0", "perplexity", "51.25", "2", "20"]
    assert rows[1] == ["acc", "50.0", "%", "10.0", "%", "76.6", "%", "76.2", "%"]  # published figures are zero-shot
    assert rows[3] == ["acc_norm", "37.5", "%", "1.0", "%"]


def test_files(tmp_path: Path) -> None:
    write(tmp_path, {"run": "first", "step": 7}, OUTCOMES)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["results"][1]["metrics"]["acc_norm"] == 0.375 and found["results"][1]["cut"] == 3
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.png"]


def test_published_figures_have_a_source_and_a_task() -> None:
    for model in published().values():
        assert "arXiv" in model["source"]
        assert set(model["zero_shot"]) <= set(own_tasks())
        assert all(CHANCE.get(task, 0) - 3 < value < 100 for task, value in model["zero_shot"].items())
