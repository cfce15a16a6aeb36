"""A placement as a picture: what sits where in the tree, and how loaded its links are."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from launch.placement.report import Placement
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.links import Loads, Places
from megatron_nlg.planning.traffic import Floats, Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 32
"""Nodes side by side, at most."""
LABELS, BARS = 700, 40
"""As many labels, and as many links as bars: more are not readable."""
EMPTY = (0.93, 0.93, 0.93)
KINDS = {"tensor": "#9467bd", "context": "#8c564b", "pipeline": "#1f77b4", "copies": "#ff7f0e", "ends": "#2ca02c"}


def draw(placement: Placement, form: str) -> bytes:
    """The picture as svg or png."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = _rows(placement.fabric)
    loads = placement.loads.values()
    levels = [level for level in range(1, len(placement.fabric.levels)) if any(one.level_bytes(level) for one in loads)]
    wide = max(len(nodes) for _, nodes in rows)
    height = min(24.0, max(2.0, 0.42 * len(rows))) + 1.2
    with mpl.rc_context({"svg.hashsalt": "placement", "font.size": 9}):
        figure = Figure(figsize=(min(26.0, max(11.0, 0.75 * wide + 3)), height + 3 * bool(levels)))
        parts = figure.subfigures(1 + bool(levels), 1, height_ratios=[height, 3] if levels else None, squeeze=False)
        _draw_nodes(parts[0, 0], placement, rows)
        # In inches, whatever the figure's height: room for the titles.
        parts[0, 0].subplots_adjust(left=0.07, right=0.99, wspace=0.03, top=1 - 0.7 / height, bottom=0.15 / height)
        if levels:
            _draw_loads(parts[1, 0], placement, levels)
        out = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        figure.savefig(out, format=form, dpi=110, metadata=metadata, facecolor="white")
    return out.getvalue()


def _rows(fabric: Fabric) -> list[tuple[str, Numbers]]:
    """(leaf's name, nodes) in the order of the tree; a leaf of many nodes in several rows."""
    nodes = np.lexsort(fabric.paths)
    if len(fabric.members) == 1:
        wide = min(WIDE, max(8, round(len(nodes) ** 0.5)))
        return [("", nodes[first : first + wide]) for first in range(0, len(nodes), wide)]
    rows = []
    for leaf in dict.fromkeys(fabric.paths[1][nodes].tolist()):
        below = nodes[fabric.paths[1][nodes] == leaf]
        for first in range(0, len(below), WIDE):
            rows.append(("" if first else fabric.members[1][leaf], below[first : first + WIDE]))
    return rows


def _draw_nodes(figure: Any, placement: Placement, rows: list[tuple[str, Numbers]]) -> None:
    """Twice the same nodes: coloured by pipeline stage, and by replica."""
    layout = placement.layout
    axes = figure.subplots(1, 2, sharey=True, squeeze=False)[0]
    ranks = np.arange(layout.world_size)
    pipe = ranks // (layout.copies * layout.tensor)
    copy = ranks // layout.tensor % layout.copies
    for panel, values, count, name in (
        (axes[0], pipe, layout.pipeline, "pipeline stage"),
        (axes[1], copy, layout.copies, "data replica" if layout.context == 1 else "data replica × context rank"),
    ):
        _draw_map(panel, placement, rows, values, count)
        panel.set_title(f"{name} (0-{count - 1}), a column a node of {placement.per_node} GPUs")
    axes[0].set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    figure.suptitle(f"{layout} on {len(placement.plan.nodes)} nodes", y=0.995, va="top", fontsize=11)


def _draw_map(axes: Axes, placement: Placement, rows: list[tuple[str, Numbers]], values: Numbers, count: int) -> None:
    """GPUs as cells, one below the other in a node; labels where a node's neighbours hold the same."""
    import matplotlib as mpl

    colours = np.vstack([mpl.colormaps["turbo"](np.linspace(0.08, 0.95, max(count, 2)))[:count, :3], EMPTY])
    cells, wide = _cells(placement, values), max(len(nodes) for _, nodes in rows)
    gpus, gap = cells.shape[1], 6
    scale = max(1, 32 // gpus)
    image = np.ones((len(rows) * (gpus * scale + gap), wide * 30, 3))
    labels = sum(len(np.flatnonzero(np.diff(cells[node]))) + 1 for _, nodes in rows for node in nodes) <= LABELS
    for row, (_, nodes) in enumerate(rows):
        top = row * (gpus * scale + gap)
        for column, node in enumerate(nodes.tolist()):
            block = np.repeat(colours[cells[node]], scale, axis=0)
            if scale > 1:  # a faint line between GPUs
                block[scale - 1 : -1 : scale] = 0.65 * block[scale - 1 : -1 : scale] + 0.35
            image[top : top + gpus * scale, column * 30 : column * 30 + 27] = block[:, None]
            for first, last in _runs(cells[node]) if labels else ():
                value = cells[node][first]
                y = row - 0.5 + ((first + last + 1) / 2 * scale) / (gpus * scale + gap)
                bright = value < 0 or colours[value] @ (0.3, 0.6, 0.1) > 0.55
                text = "–" if value < 0 else str(value)
                axes.text(
                    column - 0.05, y, text, ha="center", va="center", fontsize=7, color="black" if bright else "white"
                )
    axes.imshow(image, extent=(-0.5, wide - 0.5, len(rows) - 0.5, -0.5), aspect="auto", interpolation="nearest")
    _draw_spines(axes, placement.fabric, rows)
    axes.set_xticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)


def _cells(placement: Placement, values: Numbers) -> Numbers:
    """[nodes, GPUs] value of the rank on each; -1 for none."""
    places = Places.on(placement.chosen.node)
    cells = np.full((len(placement.fabric.nodes), placement.per_node), -1)
    cells[places.node, places.gpu] = values
    return cells


def _runs(values: Numbers) -> list[tuple[int, int]]:
    """(first, last) of equal neighbours."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(first, after - 1) for first, after in pairwise(cuts)]


def _draw_spines(axes: Axes, fabric: Fabric, rows: list[tuple[str, Numbers]]) -> None:
    """A line between rows whose leaves hang on different spines."""
    if len(fabric.members) < 3:
        return
    for row in range(1, len(rows)):
        one, other = (fabric.paths[2][rows[at][1][0]] for at in (row - 1, row))
        if one != other:
            axes.axhline(row - 0.5 - 0.06, color="black", linewidth=1.2)


def _draw_loads(figure: Any, placement: Placement, levels: list[int]) -> None:
    """Seconds of every link of each level, by kind."""
    panels = figure.subplots(1, len(levels), squeeze=False)[0]
    figure.subplots_adjust(left=0.05, right=0.99, wspace=0.14, top=0.78, bottom=0.2)
    for axes, level in zip(panels, levels, strict=True):
        seconds = {name: _link_seconds(placement.fabric, loads, level) for name, loads in placement.loads.items()}
        if len(seconds["chosen"][next(iter(seconds["chosen"]))]) <= BARS:
            _draw_bars(axes, placement.fabric, seconds, level)
        else:
            _draw_curve(axes, seconds)
        axes.set_title(f"links of each {placement.fabric.levels[level].name}: seconds a step", fontsize=10)
        axes.set_ylim(0, 1.25 * max(float(np.sum([*kinds.values()], axis=0).max()) for kinds in seconds.values()) or 1)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), ncols=len(handles), loc="upper center", fontsize=8, frameon=False)


def _link_seconds(fabric: Fabric, loads: Loads, level: int) -> dict[str, Floats]:
    """Kind -> seconds of each link's busiest rail and direction; kinds without any are left out."""
    speed = fabric.bandwidth(level)
    found = {str(kind): own.bytes[level].max(axis=(1, 2)) / speed for kind, own in loads.kinds.items()}
    return {kind: seconds for kind, seconds in found.items() if seconds.any()} or {"pipeline": 0 * speed}


def _draw_bars(axes: Axes, fabric: Fabric, seconds: dict[str, dict[str, Floats]], level: int) -> None:
    names = fabric.members[level - 1]
    x = np.arange(len(names))
    for shift, (name, kinds) in zip((-0.2, 0.2), seconds.items(), strict=True):
        bottom = np.zeros(len(names))
        for kind, values in kinds.items():
            pale = name == "default"
            axes.bar(
                x + shift,
                values,
                0.38,
                bottom,
                color=KINDS[kind],
                alpha=0.45 if pale else 1.0,
                hatch="////" if pale else None,
                edgecolor="white",
                linewidth=0.3,
                label=f"{kind}, {name}",
            )
            bottom += values
    axes.set_xticks(
        x, names, rotation=45 if len(names) > 6 else 0, ha="right" if len(names) > 6 else "center", fontsize=7
    )


def _draw_curve(axes: Axes, seconds: dict[str, dict[str, Floats]]) -> None:
    """The most loaded link first."""
    for name, kinds in seconds.items():
        total = np.sort(np.sum([*kinds.values()], axis=0))[::-1]
        style = {"linestyle": "--", "color": "gray"} if name == "default" else {"color": "black"}
        axes.step(np.arange(len(total)), total, where="mid", **style)
    axes.set_xlabel("links, the most loaded first: chosen black, default dashed", fontsize=8)
