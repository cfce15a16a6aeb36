"""Numbers of a study as CSV, and the rows that one looks for first."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.files import write_text

Figures = Mapping[str, Any]
Row = Mapping[str, Any]

COLUMNS = ("model", "task", "probe", "layer", "examples", "tested", "bits", "uniform_bits", "compression", "accuracy",
           "f1", "majority", "selectivity")  # fmt: skip
CONTROL = ("bits", "compression", "accuracy", "f1")


def best(figures: Figures) -> list[Row]:
    """Of each model, task and kind of probe the layer that compresses best, the earlier of equal ones."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in figures["rows"]:
        key = row["model"], row["task"], row["probe"]
        if key not in found or row["compression"] > found[key]["compression"]:
            found[key] = row
    return list(found.values())


def tables(figures: Figures) -> dict[str, list[Sequence[Any]]]:
    """Tables by name, each with its head."""
    layers: list[Sequence[Any]] = [(*COLUMNS, *(f"control_{name}" for name in CONTROL))]
    for row in figures["rows"]:
        layers.append([*(row[name] for name in COLUMNS), *(row["control"][name] for name in CONTROL)])
    found = {"layers": layers}
    if figures["rankers"]:
        names = list(figures["rankers"][0])
        found["rankers"] = [names, *([row[name] for name in names] for row in figures["rankers"])]
    return found


def write_tables(some: Mapping[str, Sequence[Sequence[Any]]], folder: Path) -> None:
    """NAME.csv of each."""
    for name, rows in some.items():
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(folder / f"{name}.csv", text.getvalue())
