"""What became of the documents, as hand-made inline SVG: bands from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from data_prep.report.html import COLORS
from data_prep.report.text import bytes_text, count_text

ORDER = ("read", "extract", "language", "clean", "filter", "quality", "dedup", "decontaminate")
"""Of the stages of a preparation: stats.json has them by name. Others come after these."""
MOST_REASONS = 6
"""Under a stage; the most frequent ones."""
BAR, HEIGHT, TOP = 26, 260, 46
WIDEST, NARROWEST, ALL_COLUMNS = 215, 138, 1100
"""Of a column, and of all of them when there are many."""
DROPPED = "#dc2626"


@dataclass(frozen=True)
class Stage:
    """One stage of preparation; sizes are bytes of text by source."""

    name: str
    kept: dict[str, int]
    lost: dict[str, int]
    """What went in and did not come out: dropped documents, and text that cleaning took from kept ones."""
    documents: tuple[int, int]
    """In and out, over all sources."""
    reasons: list[tuple[str, int, int]]
    """Why documents were dropped: reason, documents, bytes; most documents first."""


@dataclass(frozen=True)
class _Paint:
    scale: float
    """Picture units a byte."""
    colors: Mapping[str, str]
    """Source -> colour."""
    column: int
    """Distance of two stages."""


def stages_of(stats: Mapping[str, Any]) -> list[Stage]:
    """The stages of a stats.json, in the order of a preparation."""
    stages = [(name, stage["sources"]) for name, stage in stats.get("stages", {}).items() if stage.get("sources")]
    known = sorted((s for s in stages if s[0] in ORDER), key=lambda s: ORDER.index(s[0]))
    return [_stage(*stage) for stage in [*known, *(s for s in stages if s[0] not in ORDER)]]


def _stage(name: str, sources: Mapping[str, Any]) -> Stage:
    reasons: dict[str, tuple[int, int]] = {}
    for tally in sources.values():
        for reason, lost in tally["dropped"].items():
            documents, size = reasons.get(reason, (0, 0))
            reasons[reason] = (documents + lost["documents"], size + lost["bytes"])
    return Stage(
        name=name,
        kept={source: tally["bytes_out"] for source, tally in sources.items()},
        lost={source: max(0, tally["bytes_in"] - tally["bytes_out"]) for source, tally in sources.items()},
        documents=(
            sum(tally["documents_in"] for tally in sources.values()),
            sum(tally["documents_out"] for tally in sources.values()),
        ),
        reasons=sorted(((reason, *lost) for reason, lost in reasons.items()), key=lambda r: (-r[1], r[0])),
    )


def flow_diagram(stages: Sequence[Stage], tokens: Mapping[str, Mapping[str, int]]) -> str:
    """Bands from stage to stage, as thick as their text is large; red is what a stage dropped, with the reasons.

    `tokens` (source -> documents, tokens) labels the last column.
    """
    names = list(stages[0].kept)
    whole = max(sum(stage.kept.values()) + sum(stage.lost.values()) for stage in stages) or 1
    column = max(NARROWEST, min(WIDEST, ALL_COLUMNS // len(stages)))
    short = column < 180
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}
    paint = _Paint((HEIGHT - 10.0 * len(names)) / whole, colors, column)
    parts, deepest = [], 0.0
    for number, stage in enumerate(stages):
        x = 20 + number * column
        spans, end = _spans(stage, paint.scale)
        after = stages[number + 1] if number + 1 < len(stages) else None
        following = _spans(after, paint.scale)[0] if after else spans
        for name in names:
            ends = (x + BAR, spans[name]), (x + column, following[name])
            parts.append(_band(*ends, stage.kept[name] * paint.scale, paint.colors[name]))
            parts.append(_bars((x, spans[name]), stage, name, paint))
        parts += _heading(x, stage, short)
        reasons, bottom = _reasons(x, end + 18, stage, short)
        parts += reasons
        deepest = max(deepest, bottom)
    parts += _last_column(20 + len(stages) * column, stages[-1], tokens, paint)
    width = 20 + len(stages) * column + 260
    style = f"max-width:{width}px;min-width:{0.7 * width:g}px"
    return (
        f'<svg class="diagram" viewBox="0 0 {width} {deepest + 6:g}" style="{style}" role="img" '
        f'aria-label="documents by stage">{"".join(parts)}</svg>'
    )


def _spans(stage: Stage, scale: float) -> tuple[dict[str, float], float]:
    """Top of each source's bar in a column, and where the column ends."""
    tops, y = {}, float(TOP)
    for name, kept in stage.kept.items():
        tops[name] = y
        y += (kept + stage.lost[name]) * scale + 10
    return tops, y


def _band(start: tuple[float, float], end: tuple[float, float], height: float, color: str) -> str:
    """A ribbon of constant height from `start` to `end`, both (x, y) of its upper edge."""
    (x0, y0), (x1, y1) = start, end
    middle = (x0 + x1) / 2
    return (
        f'<path d="M{x0:g} {y0:.1f}C{middle:g} {y0:.1f} {middle:g} {y1:.1f} {x1:g} {y1:.1f}'
        f'v{height:.1f}C{middle:g} {y1 + height:.1f} {middle:g} {y0 + height:.1f} {x0:g} {y0 + height:.1f}Z" '
        f'fill="{color}" fill-opacity="0.22"/>'
    )


def _bars(at: tuple[float, float], stage: Stage, name: str, paint: _Paint) -> str:
    (x, y), color = at, paint.colors[name]
    kept, lost = stage.kept[name] * paint.scale, stage.lost[name] * paint.scale
    title = f"{name}: {bytes_text(stage.kept[name])} kept, {bytes_text(stage.lost[name])} not"
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect x="{x}" y="{y:.1f}" width="{BAR}" height="{max(kept, 0.5):.1f}" fill="{color}"/>'
        f'<rect x="{x}" y="{y + kept:.1f}" width="{BAR}" height="{lost:.1f}" fill="{DROPPED}" fill-opacity="0.75"/></g>'
    )


def _heading(x: float, stage: Stage, short: bool) -> list[str]:
    size = sum(stage.kept.values()) + sum(stage.lost.values())
    return [
        _text(x, TOP - 27, stage.name, "left head"),
        _text(
            x,
            TOP - 12,
            f"{count_text(stage.documents[0])} documents" + ("" if short else f", {bytes_text(size)}"),
            "left sub",
        ),
    ]


def _reasons(x: float, y: float, stage: Stage, short: bool) -> tuple[list[str], float]:
    parts = []
    shown = stage.reasons if len(stage.reasons) <= MOST_REASONS else stage.reasons[: MOST_REASONS - 1]
    for reason, documents, size in shown:
        name = reason.replace("_", " ")
        line = (
            f"− {name[:18]}: {count_text(documents)}"
            if short
            else f"− {name}: {count_text(documents)}, {bytes_text(size)}"
        )
        parts.append(_text(x, y, line, "left drop"))
        y += 16
    if len(shown) < len(stage.reasons):
        parts.append(_text(x, y, f"− {len(stage.reasons) - len(shown)} more reasons", "left drop"))
        y += 16
    return parts, y


def _last_column(x: float, last: Stage, tokens: Mapping[str, Mapping[str, int]], paint: _Paint) -> list[str]:
    parts = [_text(x, TOP - 27, "tokens", "left head")]
    parts.append(
        _text(
            x, TOP - 12, f"{count_text(last.documents[1])} documents, {bytes_text(sum(last.kept.values()))}", "left sub"
        )
    )
    y = 0.0
    for name, top in _spans(last, paint.scale)[0].items():
        height = max(last.kept[name] * paint.scale, 0.5)
        parts.append(f'<rect x="{x}" y="{top:.1f}" width="{BAR}" height="{height:.1f}" fill="{paint.colors[name]}"/>')
        y = max(y + 32, top + height / 2)  # labels of thin bars must not cover each other
        parts.append(_text(x + BAR + 10, y, name, "left head"))
        if name in tokens:
            line = f"{count_text(tokens[name]['tokens'])} tokens, {count_text(tokens[name]['documents'])} documents"
            parts.append(_text(x + BAR + 10, y + 15, line, "left sub"))
    return parts


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(text)}</text>'
