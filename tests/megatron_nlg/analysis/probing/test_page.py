"""What the report says of its figures, in words and tables; names from outside are escaped."""

from __future__ import annotations

from typing import Any

from megatron_nlg.analysis.probing.page import page, verdicts
from megatron_nlg.analysis.probing.tables import best, tables


def row(model: str, task: str, layer: int, compression: float, selectivity: float = 0.3) -> dict[str, Any]:
    control = {"bits": 100.0, "compression": 1.0, "accuracy": 0.5, "f1": 0.5}
    return {
        "model": model, "task": task, "probe": "linear", "layer": layer, "examples": 100, "tested": 12,
        "bits": 100 / compression, "uniform_bits": 100.0, "compression": compression, "accuracy": 0.5 + selectivity,
        "f1": 0.5, "majority": 0.5, "selectivity": selectivity, "control": control, "portions": [[0, 1.0]],
    }  # fmt: skip


def figures() -> dict[str, Any]:
    compressions = {
        "a<b": {"tf": (1.2, 1.5, 1.3), "facts": (1.0, 1.01, 1.0)},
        "other": {"tf": (1.2, 1.2, 1.9), "facts": (1, 1, 1)},
    }
    rows = [
        row(model, task, layer, value)
        for model, tasks in compressions.items()
        for task, values in tasks.items()
        for layer, value in enumerate(values)
    ]
    return {
        "models": [{"name": name} for name in compressions],
        "tasks": [
            {"task": task, "classes": ["x", "y"], "about": "", "examples": 120, "prior": 1.0}
            for task in ("tf", "facts")
        ],
        "collection": {"folder": "c", "passages": 5, "queries": 4, "judged": 4, "words": 100},
        "rankers": [{"ranker": "BM25", "map": 0.5, "mrr": 0.25}],
        "rows": rows,
        "training": {
            "seed": 0, "step": 0.1, "product": True, "batch_size": 8, "rounds": 3, "patience": 1, "held_out": 0.1,
        },
    }  # fmt: skip


def test_verdicts() -> None:
    tf, facts, _ = verdicts(figures())
    assert "tf: layer 1 of a<b compresses 1.50 times" in tf and "other: more (1.90, layer 2)" in tf
    assert "facts: no layer of a<b tells more than the frequencies of the classes (1.010 against 1.000 times)" in facts
    flat = figures()
    flat["rows"] = [row("a<b", "tf", 0, 1.5, 0.01), row("a<b", "tf", 1, 1.52, 0.01), row("other", "tf", 0, 1.5)]
    flat["tasks"] = flat["tasks"][:1]
    (said, _) = verdicts(flat)
    assert "the embeddings do as well" in said and "not more than the control task" in said and "the same" in said


def test_page_and_tables() -> None:
    some = figures()
    text = page(some, {"layers linear": ["<svg>L</svg>"], "where": ["<svg>W</svg>"], "code": ["<svg>C</svg>"]})
    assert text.count("<svg>") == 3 and "a<b" not in text and "a&lt;b" in text
    assert "5 passages of at most 100 words" in text and '<td class="n">0.2500</td>' in text
    assert [(r["model"], r["task"], r["layer"]) for r in best(some)] == [
        ("a<b", "tf", 1), ("a<b", "facts", 1), ("other", "tf", 2), ("other", "facts", 0)
    ]  # fmt: skip
    made = tables(some)
    assert made["rankers"] == [["ranker", "map", "mrr"], ["BM25", 0.5, 0.25]]
    assert made["layers"][0][-1] == "control_f1" and len(made["layers"]) == 13
