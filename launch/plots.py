"""Pictures of a predicted run, as SVG elements: steps by part, the pipeline, memory by stage, scaling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.report.figure import GRID, INK, MUTED, STYLE, svg
from data_prep.report.html import COLORS
from megatron_nlg.planning.footprint import GIB
from megatron_nlg.planning.step import as_dict

if TYPE_CHECKING:
    from megatron_nlg.planning.forecast import Point
    from megatron_nlg.planning.prediction import Prediction
    from megatron_nlg.planning.simulation import Simulated

LIMIT = "#b91c1c"
BINS = 2400
"""Columns of the pipeline's picture."""
PASSES = {"idle": "#f3f4f6", "forward": "#2563eb", "backward": "#059669"}


@contextmanager
def _drawn(name: str, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """A figure of ten inches in the project's look, and its axes, [rows, columns]."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(10, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False)


def parts_chart(rows: Sequence[tuple[str, Prediction]]) -> str:
    """Seconds by part, a bar a layout."""
    with _drawn("parts", 0.9 + 0.32 * len(rows)) as (figure, grid):
        axes = grid[0, 0]
        _stack(axes, [name for name, _ in rows], [as_dict(found.breakdown) for _, found in rows])
        for row, (_, found) in enumerate(rows):
            axes.text(found.step_seconds * 1.006, row, f"{found.step_seconds:.2f} s", va="center", fontsize=8.5)
        axes.set_xlim(0, 1.08 * max(found.step_seconds for _, found in rows))
        axes.set_xlabel("seconds of a step")
        return svg(figure, "parts")


def memory_chart(found: Prediction) -> str:
    """GiB of a rank by part, a bar a stage."""
    parts = [{part: size / GIB for part, size in asdict(stage).items()} for stage in found.stages]
    bottom = np.zeros(len(parts))
    with _drawn("memory", 3.2) as (figure, grid):
        axes = grid[0, 0]
        for color, part in zip(COLORS, parts[0], strict=True):
            height = np.array([stage[part] for stage in parts])
            axes.bar(range(len(parts)), height, bottom=bottom, width=0.8, color=color, label=part, zorder=2)
            bottom += height
        if found.memory_gib:
            axes.axhline(found.memory_gib, color=LIMIT, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.text(len(parts) - 0.4, found.memory_gib * 1.02, f"{found.memory_gib:g} GiB", color=LIMIT, ha="right")
        axes.set_ylim(0, 1.12 * max(bottom.max(), found.memory_gib or 0))
        axes.set_xlim(-0.6, len(parts) - 0.4)
        axes.set(xlabel="pipeline stage", ylabel="GiB of a rank")
        axes.xaxis.set_major_locator(_integers())
        _legend(axes)
        return svg(figure, "memory")


def pipeline_chart(simulated: Simulated) -> str:
    """When every stage computes: the whole step, and below it how the pipeline fills."""
    from matplotlib.patches import Patch

    end, stages = float(simulated.seconds[0]), len(simulated.orders)
    first = max(float(times[0, 0]) for times in simulated.begin)  # the last stage has begun
    windows = [end, 3 * first] if stages > 1 and 6 * first < end else [end]
    height = max(1.2, min(3.4, 0.3 * stages)) + 0.5
    with _drawn("pipeline", height * len(windows) + 0.4, rows=len(windows)) as (figure, grid):
        for axes, window in zip(grid[:, 0], windows, strict=True):
            box = (0, window, stages - 0.5, -0.5)
            axes.imshow(_raster(simulated, window), aspect="auto", interpolation="nearest", extent=box)
            axes.grid(visible=False)
            axes.tick_params(length=0)
            axes.set(ylabel="stage", xlabel="seconds" if window == end else "seconds: the beginning, larger")
            axes.yaxis.set_major_locator(_integers())
        handles = [Patch(color=color, label=name) for name, color in PASSES.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=9, handlelength=1)
        return svg(figure, "pipeline")


def _raster(simulated: Simulated, window: float) -> np.ndarray:
    """Colours of what each stage does at the middle of every bin; [stages, bins, 3]. Chunks differ in brightness."""
    middle = (np.arange(BINS) + 0.5) * window / BINS
    shades = {kind: np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for kind, color in PASSES.items()}
    picture = np.empty((len(simulated.orders), BINS, 3), dtype=np.uint8)
    for stage, order in enumerate(simulated.orders):
        begin, end = simulated.begin[stage][:, 0], simulated.end[stage][:, 0]
        at = np.clip(np.searchsorted(begin, middle, side="right") - 1, 0, None)
        colors = np.array([shades[step.kind] + (255 - shades[step.kind]) * min(step.chunk, 4) // 6 for step in order])
        busy = (begin[at] <= middle) & (middle < end[at])
        picture[stage] = np.where(busy[:, None], colors[at], shades["idle"])
    return picture


def scaling_chart(strong: Sequence[Point], weak: Sequence[Point]) -> str:
    """Efficiency, and seconds of a step, over nodes."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, PercentFormatter, StrMethodFormatter

    ticks = sorted({point.nodes for point in (*strong, *weak)})
    with _drawn("scaling", 3.0, columns=2) as (figure, grid):
        left, right = grid[0]
        for name, points, color in (("strong", strong, COLORS[0]), ("weak", weak, COLORS[1])):
            nodes = [point.nodes for point in points]
            for axes, values in (
                (left, [point.efficiency for point in points]),
                (right, [point.step_seconds for point in points]),
            ):
                axes.plot(nodes, values, "o-", color=color, label=name, markersize=4.5)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.tick_params(length=0)
            axes.set_xlabel("nodes")
            axes.legend(fontsize=9)
        left.set(ylim=(0, None), ylabel="efficiency")
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.set(yscale="log", ylabel="seconds of a step")
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_minor_locator(NullLocator())
        right.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        return svg(figure, "scaling")


def _stack(axes: Any, names: Sequence[str], rows: Sequence[Mapping[str, float]]) -> None:
    """Horizontal bars, a colour a part."""
    left = np.zeros(len(rows))
    for color, part in zip(COLORS, rows[0], strict=False):
        width = np.array([row[part] for row in rows])
        axes.barh(range(len(rows)), width, left=left, height=0.66, color=color, label=part, zorder=2)
        left += width
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID)
    axes.tick_params(length=0, axis="y", labelcolor=INK)
    _legend(axes)


def _legend(axes: Any) -> None:
    axes.tick_params(length=0, colors=MUTED)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=8, fontsize=8.5, handlelength=1, columnspacing=1.2)


def _integers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=12, integer=True)
