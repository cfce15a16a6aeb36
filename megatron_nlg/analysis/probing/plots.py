"""Pictures of a probing study: SVG elements for the page, and PNG and SVG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import make_folder
from data_prep.report.drawing import drawing, plain
from data_prep.report.figure import INK, MUTED
from data_prep.report.html import COLORS
from megatron_nlg.analysis.probing.probes import MIXTURE
from megatron_nlg.analysis.probing.tables import best

Figures = Mapping[str, Any]
Row = Mapping[str, Any]
Rows = Sequence[Row]

ACROSS = 5
"""Panels beside each other, at most."""
FAINT = 0.05
"""Of compression: a task that no layer compresses more has pale colours."""
DASHES, DOTS = (0, (4, 2)), (0, (1, 2))


def pictures(figures: Figures, folder: Path) -> dict[str, list[str]]:
    """SVG elements by section; `folder` gets every picture as PNG and SVG."""
    make_folder(folder)
    rows = figures["rows"]
    kinds = list(dict.fromkeys(row["probe"] for row in rows if row["layer"] != MIXTURE))
    prior = {task["task"]: task["prior"] for task in figures["tasks"]}
    found = {f"layers {kind}": _layers([r for r in rows if r["probe"] == kind], kind, prior, folder) for kind in kinds}
    if kinds:
        found["where"] = [_where([r for r in rows if r["probe"] == kinds[0]], prior, folder)]
    found["code"] = [_codes(best(figures), folder)]
    if mixed := [row for row in rows if "mixture" in row]:
        found["mixture"] = [_mixtures(mixed, folder)]
    return found


# ---- by layer --------------------------------------------------------------------------------------------------------

_MEASURES: dict[str, tuple[str, Callable[[Row], float], Callable[[Row], float] | None]] = {
    "compression": ("compression", lambda row: row["compression"], lambda row: row["control"]["compression"]),
    "mdl": ("MDL, kilobits", lambda row: row["bits"] / 1000, lambda row: row["control"]["bits"] / 1000),
    "accuracy": ("accuracy", lambda row: row["accuracy"], lambda row: row["control"]["accuracy"]),
    "f1": ("F1, mean over classes", lambda row: row["f1"], lambda row: row["control"]["f1"]),
    "selectivity": ("selectivity", lambda row: row["selectivity"], None),
}


def _layers(rows: Rows, kind: str, prior: Mapping[str, float], folder: Path) -> list[str]:
    """A picture a measure, a panel a task: full lines of the task, dashed ones of its control."""
    return [_measure(rows, kind, name, prior, folder) for name in _MEASURES]


def _measure(rows: Rows, kind: str, name: str, prior: Mapping[str, float], folder: Path) -> str:
    title, value, control = _MEASURES[name]
    tasks, models = _names(rows)
    lines, columns = _panels(len(tasks))
    with drawing(f"probing-{kind}-{name}", 0.5 + 2.3 * lines, lines, columns, folder) as drawn:
        panels = list(drawn.axes.flat)
        for ax, task in zip(panels, tasks, strict=False):
            for number, model in enumerate(models):
                own = [row for row in rows if row["task"] == task and row["model"] == model]
                x, color = [row["layer"] for row in own], COLORS[number % len(COLORS)]
                ax.plot(x, [value(row) for row in own], "o-", color=color, markersize=4, label=plain(model))
                if control:
                    ax.plot(x, [control(row) for row in own], color=color, linestyle=DASHES, linewidth=1)
            for level in _levels(name, [row for row in rows if row["task"] == task], prior[task]):
                ax.axhline(level, color=MUTED, linestyle=DOTS, linewidth=1.2)
            ax.set_title(task, loc="left", fontsize=10)
            ax.xaxis.get_major_locator().set_params(integer=True)
        for ax in panels[len(tasks) :]:
            ax.set_visible(False)
        for ax in panels[max(0, len(tasks) - columns) : len(tasks)]:
            ax.set_xlabel("layer")
        for line in range(lines):
            drawn.axes[line, 0].set_ylabel(title)
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=9)
    return drawn.markup


def _levels(name: str, rows: Rows, prior: float) -> list[float]:
    """What knowing nothing, or the frequencies of classes alone, gives: dotted."""
    if name == "accuracy":
        return sorted({row["majority"] for row in rows})
    if name == "mdl":
        return sorted({row["uniform_bits"] / 1000 for row in rows})
    return {"compression": [1.0, prior], "selectivity": [0.0]}.get(name, [])


def _panels(count: int) -> tuple[int, int]:
    """Lines and columns, lines about as full as each other."""
    lines = -(-count // ACROSS)
    return lines, -(-count // lines)


def _names(rows: Rows) -> tuple[list[str], list[str]]:
    """Tasks and models in their order."""
    return list(dict.fromkeys(row["task"] for row in rows)), list(dict.fromkeys(row["model"] for row in rows))


# ---- over tasks ------------------------------------------------------------------------------------------------------


def _where(rows: Rows, prior: Mapping[str, float], folder: Path) -> str:
    """Where compression is: a heat map a model, each task from what frequencies give to the best layer of all."""
    tasks, models = _names(rows)
    known = np.array([prior[task] for task in tasks])
    most = np.array([max(row["compression"] for row in rows if row["task"] == task) for task in tasks]) - known
    known, most = known[:, None], np.maximum(most, FAINT)[:, None]
    with drawing("probing-where", 0.9 + 0.42 * len(tasks), 1, len(models), folder, sharey=True) as drawn:
        for ax, model in zip(drawn.axes[0], models, strict=True):
            values = _grid([row for row in rows if row["model"] == model], tasks)
            gains = np.maximum(values - known, 0) / most
            ax.imshow(gains, cmap="viridis", aspect="auto", vmin=0, vmax=1)
            for (task, layer), value in np.ndenumerate(values):
                color = INK if gains[task, layer] > 0.6 else "white"
                ax.text(layer, task, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=color)
            ax.set_yticks(range(len(tasks)), tasks)
            ax.set_title(plain(model), loc="left", fontsize=10)
            ax.set_xlabel("layer")
            ax.grid(visible=False)
    return drawn.markup


def _grid(rows: Rows, tasks: Sequence[str]) -> Any:
    """Compression, [tasks, layers]."""
    return np.array([[row["compression"] for row in rows if row["task"] == task] for task in tasks])


def _codes(rows: Rows, folder: Path) -> str:
    """Bits a label, portion by portion, of each model's best layer; of its first kind of probe."""
    rows = [row for row in rows if row["probe"] == rows[0]["probe"]]
    tasks, models = _names(rows)
    lines, columns = _panels(len(tasks))
    with drawing("probing-code", 0.5 + 2.3 * lines, lines, columns, folder) as drawn:
        panels = list(drawn.axes.flat)
        for row in rows:
            ax, color = panels[tasks.index(row["task"])], COLORS[models.index(row["model"]) % len(COLORS)]
            for portions, style in ((row["portions"], "-"), (row["control"]["portions"], DASHES)):
                x, y = _steps(portions, row["examples"])
                ax.step(x, y, where="post", color=color, linestyle=style, linewidth=1.6 if style == "-" else 1)
            ax.axhline(row["uniform_bits"] / row["examples"], color=MUTED, linestyle=DOTS, linewidth=1.2)
        for ax, task in zip(panels, tasks, strict=False):
            ax.set_title(task, loc="left", fontsize=10)
            ax.set_xscale("log")
            ax.set_ylim(bottom=0)
        for ax in panels[len(tasks) :]:
            ax.set_visible(False)
        for ax in panels[max(0, len(tasks) - columns) : len(tasks)]:
            ax.set_xlabel("labels sent")
        for line in range(lines):
            drawn.axes[line, 0].set_ylabel("bits a label")
        marks = [panels[0].plot([], [], color=COLORS[i % len(COLORS)])[0] for i in range(len(models))]
        drawn.figure.legend(marks, [plain(model) for model in models], loc="outside upper center", ncols=4, fontsize=9)
    return drawn.markup


def _steps(portions: Sequence[tuple[int, float]], examples: int) -> tuple[list[int], list[float]]:
    """Where portions begin (a log axis has no 0) and their bits a label; the last level once more at the end."""
    ends = [begin for begin, _ in portions[1:]] + [examples]
    level = [bits / (end - begin) for (begin, bits), end in zip(portions, ends, strict=True)]
    return [max(1, begin) for begin, _ in portions] + [examples], [*level, level[-1]]


def _mixtures(rows: Rows, folder: Path) -> str:
    """Weights that mixtures give to layers, a panel a task."""
    tasks, models = _names(rows)
    lines, columns = _panels(len(tasks))
    with drawing("probing-mixture", 0.5 + 2.1 * lines, lines, columns, folder) as drawn:
        panels = list(drawn.axes.flat)
        for row in rows:
            place, wide = models.index(row["model"]), 0.8 / len(models)
            x = np.arange(len(row["mixture"])) + (place - (len(models) - 1) / 2) * wide
            panels[tasks.index(row["task"])].bar(x, row["mixture"], wide, color=COLORS[place % len(COLORS)],
                                                 label=plain(row["model"]))  # fmt: skip
        for ax, task in zip(panels, tasks, strict=False):
            ax.set_title(task, loc="left", fontsize=10)
            ax.set_xlabel("layer")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.grid(visible=False, axis="x")
        for ax in panels[len(tasks) :]:
            ax.set_visible(False)
        for line in range(lines):
            drawn.axes[line, 0].set_ylabel("weight")
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=9)
    return drawn.markup
