"""Pictures of a sweep: loss curves laid over each other, maps of verdicts, and the largest stable rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.report.drawing import drawing, plain
from data_prep.report.figure import INK, MUTED
from data_prep.report.html import COLORS
from megatron_nlg.report.charts import running_mean, short
from megatron_nlg.studies.sweep.grid import Axis
from megatron_nlg.studies.sweep.results import Row, Stable, rate_axis
from megatron_nlg.studies.sweep.verdict import DIVERGED, FAILED, NOT_LEARNT, SPIKES, STABLE, UNFINISHED

TONES = {
    STABLE: "#6ee7b7",
    SPIKES: "#fcd34d",
    DIVERGED: "#fca5a5",
    NOT_LEARNT: "#d1d5db",
    FAILED: "#9ca3af",
    UNFINISHED: "#f3f4f6",
}
Labels = Mapping[str, str]


class Facets:
    """Which axis is drawn as what: a colour (the rate, where there is one), columns, and rows for what is left."""

    def __init__(self, axes: Sequence[Axis]):
        self.color = rate_axis(axes) or axes[-1]
        rest = [axis for axis in axes if axis is not self.color]
        self.column = next((axis for axis in rest if axis.keys == ("model.init_std",)), rest[-1] if rest else None)
        self.left = [axis for axis in rest if axis is not self.column]

    @property
    def rows(self) -> list[dict[str, str]]:
        """Labels of the axes that are left, one a row."""
        names = [axis.name for axis in self.left]
        points = product(*([point.label for point in axis.points] for axis in self.left))
        return [dict(zip(names, labels, strict=True)) for labels in points]

    @property
    def columns(self) -> list[dict[str, str]]:
        """Labels of the columns' axis."""
        return [{self.column.name: point.label} for point in self.column.points] if self.column else [{}]


def named(labels: Labels) -> str:
    """`hidden_size 64, beta2 0.95`."""
    return ", ".join(f"{name} {label}" for name, label in labels.items())


def _chosen(rows: Sequence[Row], labels: Labels) -> list[Row]:
    return [row for row in rows if all(row.labels[name] == label for name, label in labels.items())]


def curves(folder: Path, rows: Sequence[Row], axes: Sequence[Axis]) -> str:
    """Loss over steps: a panel a combination, a colour a rate; spikes are marked, and where a diverged run ended."""
    import matplotlib as mpl

    facets = Facets(axes)
    names = [point.label for point in facets.color.points]
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.92, len(names)))
    known = [loss for row in rows for loss in row.losses if loss is not None]
    top = 1.12 * max([row.uniform or 0.0 for row in rows] + [row.losses[0] or 0.0 for row in rows if row.losses])
    grid = len(facets.rows), len(facets.columns)
    with drawing("curves", 0.9 + 2.1 * grid[0], *grid, sharex=True, sharey=True, folder=folder) as drawn:
        for (i, down), (j, across) in product(enumerate(facets.rows), enumerate(facets.columns)):
            ax = drawn.axes[i, j]
            for row in _chosen(rows, {**down, **across}):
                _curve(ax, row, shades[names.index(row.labels[facets.color.name])])
            ax.set_title(plain(named({**down, **across})), loc="left", fontsize=9)
            if known:
                ax.set_ylim(0.97 * min(known), max(top, 1.05 * min(known)))
            uniform = next((row.uniform for row in rows if row.uniform), None)
            if uniform:
                ax.axhline(uniform, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        for ax in drawn.axes[:, 0]:
            ax.set_ylabel("loss, nats")
        for ax in drawn.axes[-1]:
            ax.set_xlabel("step")
        handles = [mpl.lines.Line2D([], [], color=shade, linewidth=2.2) for shade in shades]
        titles = [plain(f"{facets.color.name} {name}") for name in names]
        drawn.figure.legend(handles, titles, loc="outside upper center", ncols=min(6, len(names)), fontsize=9)
    return drawn.markup


def _curve(ax: Any, row: Row, color: Any) -> None:
    """A run's losses, where it has some."""
    y = np.asarray([np.nan if loss is None else loss for loss in row.losses], dtype=np.float64)
    if not len(y):
        return
    x = np.arange(1, len(y) + 1)
    diverged = row.verdict.word == DIVERGED
    ax.plot(x, y, color=color, linewidth=0.7, alpha=0.3)
    smooth = running_mean(y, max(1, len(y) // 40))
    ax.plot(x, smooth, color=color, linewidth=1.6, linestyle=(0, (2, 1)) if diverged else "-")
    for step in row.verdict.spikes:
        ax.plot(step, y[step - 1], "v", color=color, markersize=5, markeredgecolor=INK, markeredgewidth=0.5)
    if diverged and np.isfinite(y).any():
        last = int(np.flatnonzero(np.isfinite(y))[-1])
        ax.plot(x[last], y[last], "x", color=color, markersize=8, markeredgewidth=2.2, clip_on=True)


def maps(folder: Path, rows: Sequence[Row], axes: Sequence[Axis]) -> str:
    """What became of each run: a map for what is left, rates upwards, the columns' axis to the right."""
    import matplotlib as mpl

    facets = Facets(axes)
    across = min(3, len(facets.rows))
    down = -(-len(facets.rows) // across)
    height = 0.9 + down * (0.85 + 0.36 * len(facets.color.points))
    with drawing("verdicts", height, down, across, sharex=True, sharey=True, folder=folder) as drawn:
        for ax in drawn.axes.flat[len(facets.rows) :]:
            ax.set_visible(False)
        for ax, left in zip(drawn.axes.flat, facets.rows, strict=False):
            for x, column in enumerate(facets.columns):
                for y, point in enumerate(facets.color.points):
                    for row in _chosen(rows, {**left, **column, facets.color.name: point.label}):
                        _cell(ax, x, y, row)
            ax.set_xticks(range(len(facets.columns)), [plain(next(iter(c.values()), "")) for c in facets.columns])
            ax.set_yticks(range(len(facets.color.points)), [plain(point.label) for point in facets.color.points])
            ax.set_xlim(-0.5, len(facets.columns) - 0.5)
            ax.set_ylim(-0.5, len(facets.color.points) - 0.5)
            ax.set_title(plain(_sized(left, rows)), loc="left", fontsize=10)
            ax.grid(visible=False)
            ax.set_xlabel(plain(facets.column.name) if facets.column else "")
        for ax in drawn.axes[:, 0]:
            ax.set_ylabel(plain(facets.color.name))
        words = [word for word in TONES if any(row.verdict.word == word for row in rows)]
        handles = [mpl.patches.Patch(color=TONES[word]) for word in words]
        drawn.figure.legend(handles, words, loc="outside upper center", ncols=len(words), fontsize=9)
    return drawn.markup


def _cell(ax: Any, x: int, y: int, row: Row) -> None:
    """The verdict as a colour, and where the run ended as a number."""
    final = row.verdict.final
    ax.add_patch(_rectangle(x, y, TONES[row.verdict.word]))
    ax.text(x, y, "–" if final is None else f"{min(final, 999):.2f}", ha="center", va="center", fontsize=8.5)


def _rectangle(x: int, y: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=color, edgecolor="none")


def _sized(labels: Labels, rows: Sequence[Row]) -> str:
    """The labels, with the parameters where all these runs have as many."""
    from data_prep.report.text import count_text

    sizes = {row.parameters for row in _chosen(rows, labels)} - {None}
    size = f"{count_text(next(iter(sizes)) or 0)} parameters" if len(sizes) == 1 else ""
    return "\n".join(part for part in (named(labels), size) if part)


AGAINST = (
    ("parameters", "parameters"),
    ("standard deviation of initial weights", "init_std"),
    ("beta2", "beta2"),
)


def rates(folder: Path, stable: Sequence[Stable]) -> str:
    """The largest stable rate and the largest good one, against whatever of AGAINST varies."""
    panels = [(label, key) for label, key in AGAINST if len({getattr(one, key) for one in stable}) > 1]
    panels = panels or [AGAINST[0]]
    longest = max(len(_lines(stable, key)) for _, key in panels)
    height = 5.6 + (0.17 * longest if longest > 3 else 0)
    with drawing("rates", height, 2, len(panels), sharex="col", sharey=True, folder=folder) as drawn:
        for column, (label, key) in enumerate(panels):
            for row, kind in enumerate(("largest", "good")):
                _rate_lines(drawn.axes[row, column], stable, key, kind)
            drawn.axes[1, column].set_xlabel(label)
        drawn.axes[0, 0].set_ylabel("largest stable rate")
        drawn.axes[1, 0].set_ylabel("largest good rate")
    return drawn.markup


def _rate_lines(ax: Any, stable: Sequence[Stable], key: str, kind: str) -> None:
    """A line for all that agree in the axes that `key` does not change with."""
    lines = _lines(stable, key)
    tried = sorted({rate for one in stable for rate in one.rates})
    for number, (title, group) in enumerate(lines.items()):
        color, ordered = COLORS[number % len(COLORS)], sorted(group, key=lambda one: getattr(one, key))
        # Rates are few, and lines would hide each other: each is moved a little.
        x = np.asarray([getattr(one, key) for one in ordered]) * (1 if key == "beta2" else 1.025**number)
        found = [getattr(one, kind) for one in ordered]
        y = np.asarray([rate or tried[0] / 1.5 for rate in found]) * 1.03**number
        known = np.asarray([rate is not None for rate in found])
        ax.plot(x[known], y[known], color=color, linewidth=1.6, label=plain(title) or None)
        for a, b, rate, one in zip(x, y, found, ordered, strict=True):
            mark = "x" if rate is None else "^" if rate == one.rates[-1] else "o"
            ax.plot(a, b, mark, color=color, markersize=6.5, markeredgewidth=1.8)
    ax.set_yscale("log")
    if key != "beta2":
        ax.set_xscale("log")
    ax.set_yticks(tried, [short(rate) for rate in tried], minor=False)
    places = sorted({getattr(one, key) for one in stable})
    ax.set_xticks(places, [_place(place) for place in places])
    ax.minorticks_off()
    ax.margins(x=0.12, y=0.12)
    if len(lines) > 1 and kind == "largest":
        _legend(ax, len(lines))


def ends(folder: Path, stable: Sequence[Stable], axes: Sequence[Axis]) -> str:
    """Where runs end against their rate: a panel for each label of the columns' axis, a line for what is left."""
    facets = Facets(axes)
    top = max((value for one in stable for value in one.finals[:1] if value is not None), default=1.0)
    with drawing("ends", 3.2, 1, len(facets.columns), sharey=True, folder=folder) as drawn:
        for ax, column in zip(drawn.axes[0], facets.columns, strict=True):
            for number, left in enumerate(facets.rows):
                for one in stable:
                    if {**left, **column}.items() <= dict(one.labels).items():
                        _end_line(ax, one, COLORS[number % len(COLORS)], named(left))
            ax.set_title(plain(named(column)), loc="left", fontsize=10)
            ax.set_xscale("log")
            ax.set_xlabel("learning rate")
        lows = [value for one in stable for value in one.finals if value is not None]
        worst = max(
            [top, *(v for one in stable for v, w in zip(one.finals, one.words, strict=True) if w == STABLE and v)]
        )
        if lows:
            drawn.axes[0, 0].set_ylim(0.96 * min(lows), 1.15 * worst)
        drawn.axes[0, 0].set_ylabel("loss at the end, nats")
        if len(facets.rows) > 1:
            handles, titles = drawn.axes[0, 0].get_legend_handles_labels()
            drawn.figure.legend(handles, titles, loc="outside upper center", ncols=3, fontsize=9)
    return drawn.markup


def _end_line(ax: Any, one: Stable, color: str, title: str) -> None:
    y = np.asarray([np.nan if value is None else value for value in one.finals])
    ax.plot(one.rates, y, color=color, linewidth=1.6, label=plain(title) or None)
    for rate, value, word in zip(one.rates, y, one.words, strict=True):
        ax.plot(rate, value, "x" if word in (DIVERGED, SPIKES) else "o", color=color, markersize=6, markeredgewidth=1.8)


def _lines(stable: Sequence[Stable], key: str) -> dict[str, list[Stable]]:
    """Title -> all that agree in the axes that `key` does not change with."""
    moving = [name for name in stable[0].labels if _moves(stable, name, key)]
    lines: dict[str, list[Stable]] = {}
    for one in stable:
        still = {name: label for name, label in one.labels.items() if name not in moving}
        lines.setdefault(named(still), []).append(one)
    return lines


def _moves(stable: Sequence[Stable], axis: str, key: str) -> bool:
    """Whether `key` changes along an axis when all others stay."""
    values: dict[Any, set[Any]] = {}
    for one in stable:
        others = tuple(label for name, label in one.labels.items() if name != axis)
        values.setdefault(others, set()).add(getattr(one, key))
    return any(len(found) > 1 for found in values.values())


def _legend(ax: Any, lines: int) -> None:
    """Above the axes, where it hides nothing."""
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=lines if lines <= 3 else 1, fontsize=8)


def _place(value: float) -> str:
    from data_prep.report.text import count_text

    return count_text(value) if value >= 1000 else f"{value:.3g}"
