"""Curves over steps as inline SVG, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.report.figure import STYLE, svg

Floats = NDArray[np.float64]

RESUME = "#b91c1c"
MANY = 1500
"""A curve with more points is drawn as the mean and the range of that many bins."""


@dataclass(frozen=True)
class Series:
    """Values over steps; `smooth` adds a running mean, `steps` draws a staircase, `points` marks each value."""

    label: str
    x: Sequence[int]
    y: Sequence[float | None]
    color: str
    kind: Literal["line", "smooth", "steps", "points"] = "line"


@dataclass(frozen=True)
class Panel:
    """One set of axes: what is measured, in which unit, and its series."""

    label: str
    series: Sequence[Series] = field(default_factory=tuple)
    from_zero: bool = False
    log: bool = False


def chart(name: str, panels: Sequence[Panel], resumes: Sequence[int], height: float, axis: str = "step") -> str:
    """Panels over one axis of steps (or tokens), resumes marked, as an SVG element.

    `height` is in inches a panel; `name` makes ids.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(10, height * len(panels) + 0.4), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for number, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
            for series in panel.series:
                _draw(ax, series)
            _dress(ax, panel)
            _mark_resumes(ax, resumes, named=number == 0)
            if len(panel.series) > 1:
                ax.legend(loc="upper right", ncols=min(4, len(panel.series)), fontsize=9)
        axes[-1].set_xlabel(axis)
        if axis != "step":
            axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        figure.align_ylabels()
        return svg(figure, name)


def _draw(ax: Any, series: Series) -> None:
    x = np.asarray(series.x, dtype=np.float64)
    label = series.label.replace("$", r"\$")  # a name, not a formula
    y = np.asarray([np.nan if value is None else value for value in series.y], dtype=np.float64)
    if series.kind == "points":
        ax.plot(x, y, color=series.color, marker="o", markersize=4.5, linewidth=1.4, label=label, zorder=4)
        return
    if series.kind == "steps":
        ax.step(x, y, color=series.color, where="post", linewidth=1.6, label=label)
        return
    if len(x) > MANY:
        x, y, low, high = binned(x, y, MANY)
        ax.fill_between(x, low, high, color=series.color, alpha=0.15, linewidth=0)
    if series.kind == "smooth" and len(x) >= 40:
        ax.plot(x, y, color=series.color, linewidth=0.8, alpha=0.35)
        y = running_mean(y, max(3, len(y) // 40))
    ax.plot(x, y, color=series.color, linewidth=1.8, label=label, marker="o" if len(x) == 1 else None)


def binned(x: Floats, y: Floats, bins: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean x, mean y, lowest and highest y of `bins` runs of neighbouring points; each [bins]."""
    starts = np.linspace(0, len(x), bins, endpoint=False).astype(np.intp)
    counts = np.diff(np.append(starts, len(x)))
    means = [np.add.reduceat(values, starts) / counts for values in (x, y)]
    return means[0], means[1], np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)


def running_mean(y: Floats, width: int) -> Floats:
    """Mean of the last `width` values at each point (of fewer at the start); values that are no number are skipped."""
    known = np.isfinite(y)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, y, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    end = np.arange(1, len(y) + 1)
    start = np.maximum(0, end - width)
    number = counts[end] - counts[start]
    return np.where(number > 0, (sums[end] - sums[start]) / np.maximum(number, 1), np.nan)


def _dress(ax: Any, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.set_ylabel(panel.label)
    ax.margins(x=0.01, y=0.08)
    ax.tick_params(length=0)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    if panel.log and any(value and value > 0 for series in panel.series for value in series.y):
        ax.set_yscale("log")
    else:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if panel.from_zero:
        ax.set_ylim(bottom=0)


def short(value: float) -> str:
    """An axis label: 12000 as 12k, 0.0003 as 3e-4."""
    if value == 0:
        return "0"
    if abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 10 or (abs(value) >= size and value % 100 == 0):
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _mark_resumes(ax: Any, resumes: Sequence[int], named: bool) -> None:
    for number, step in enumerate(resumes):
        ax.axvline(step, color=RESUME, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        if named and number < 6:  # more labels than that would cover each other
            ax.annotate(
                f"resumed after {step}",
                (step, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2 + 11 * (number % 2)),  # neighbours at two heights
                textcoords="offset points",
                ha="center",
                color=RESUME,
                fontsize=8.5,
            )
