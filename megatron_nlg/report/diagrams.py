"""The rank grid, as hand-made inline SVG."""

from __future__ import annotations

from html import escape

from data_prep.report.html import COLORS
from megatron_nlg.parallel.layout import Coordinates, Layout

CELL, GAP, PAD = 34, 4, 10
MOST_STAGES, MOST_REPLICAS, MOST_IN_LINE = 6, 4, 4
"""Larger grids show the first ones and the last; a larger tensor group takes several lines."""


def layout_diagram(layout: Layout, num_layers: int) -> str:
    """Columns are pipeline stages, rows data-parallel replicas, a box one tensor group, a square one rank.

    Squares of one colour hold the same weights: they are a data-parallel group.
    """
    stages, replicas = shown(layout.pipeline, MOST_STAGES), shown(layout.data, MOST_REPLICAS)
    per_row = min(layout.tensor, MOST_IN_LINE)
    rows = -(-layout.tensor // per_row)
    box_width = max(per_row * (CELL + GAP) - GAP + 2 * PAD, 96)
    box_height = rows * (CELL + GAP) - GAP + 2 * PAD
    left, top, between, below = 92, 62, 34, 16
    width = left + len(stages) * (box_width + between)
    height = top + len(replicas) * (box_height + below)
    parts: list[str] = []
    for column, pipe in enumerate(stages):
        x = left + column * (box_width + between)
        parts += _stage_head(layout, num_layers, pipe, x + box_width / 2, top)
        for line, data in enumerate(replicas):
            y = top + line * (box_height + below)
            if column + 1 < len(stages):
                arrow_y = y + box_height / 2
                parts.append(f'<path d="M{x + box_width + 5} {arrow_y}h{between - 12}m-6 -5l6 5l-6 5" class="arrow"/>')
            if pipe is None or data is None:
                parts.append(_text(x + box_width / 2, y + box_height / 2 + 6, "…", "dots"))
            else:
                parts.append(
                    _tensor_box(layout, Coordinates(pipe, data, 0), (x, y, box_width, box_height), COLORS[column])
                )
    for line, data in enumerate(replicas):
        middle = top + line * (box_height + below) + box_height / 2
        parts.append(_text(left - 12, middle + 4, "…" if data is None else f"replica {data}", "row"))
    return (
        f'<svg class="diagram" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" '
        f'aria-label="layout of the ranks">{"".join(parts)}</svg>'
    )


def shown(count: int, most: int) -> list[int | None]:
    """0 … count − 1, the middle replaced by one None when there are more than `most`."""
    if count <= most:
        return list(range(count))
    return [*range(most - 2), None, count - 1]


def _stage_head(layout: Layout, num_layers: int, pipe: int | None, x: float, top: float) -> list[str]:
    if pipe is None:
        return []
    runs = [layer_range(run) for run in layout.layers(num_layers, pipe)]
    more = [word for word, there in (("embedding", pipe == 0), ("output", pipe == layout.pipeline - 1)) if there]
    layers = "layers " + ", ".join(runs if len(runs) <= 3 else [*runs[:2], "…", runs[-1]])
    lines = [(f"stage {pipe}", "head"), (layers, "sub"), (" + ".join(["", *more]).strip(), "sub")]
    return [_text(x, top - 44 + 15 * i, line, style) for i, (line, style) in enumerate(lines) if line]


def layer_range(run: range) -> str:
    """Zero-based layers of a chunk: `4–7`, or `4` alone."""
    return f"{run.start}" if len(run) == 1 else f"{run.start}–{run.stop - 1}"


def _tensor_box(layout: Layout, at: Coordinates, box: tuple[float, float, float, float], color: str) -> str:
    x, y, width, height = box
    per_row = min(layout.tensor, MOST_IN_LINE)
    used = per_row * (CELL + GAP) - GAP
    parts = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="9" class="box"/>']
    for tensor in range(layout.tensor):
        line, column = divmod(tensor, per_row)
        left, top = x + (width - used) / 2 + column * (CELL + GAP), y + PAD + line * (CELL + GAP)
        rank = layout.rank(Coordinates(at.pipe, at.data, tensor))
        opacity = 1.0 - 0.4 * tensor / max(1, layout.tensor - 1)
        parts.append(
            f'<rect x="{left:g}" y="{top:g}" width="{CELL}" height="{CELL}" rx="5" fill="{color}" '
            f'fill-opacity="{opacity:.2f}"><title>rank {rank}: stage {at.pipe}, replica {at.data}, tensor {tensor}'
            f"</title></rect>{_text(left + CELL / 2, top + CELL / 2 + 4, str(rank), 'rank')}"
        )
    return "".join(parts)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(text)}</text>'
