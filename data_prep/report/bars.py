"""Bars as hand-made inline SVG: light enough for every preparation to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from data_prep.report.html import COLORS
from data_prep.report.text import count_text

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 1000, 170, 62, 38
_WIDEST = 90


def histogram(labels: Sequence[str], series: Mapping[str, Sequence[int]], axis: str, label_every: int = 1) -> str:
    """Counts [bins] of each series on top of each other; a label stands under the beginning of every so manieth bin."""
    totals = [sum(counts) for counts in zip(*series.values(), strict=True)]
    most = max(totals, default=0) or 1
    step = min(_WIDEST, (_WIDTH - _LEFT) / max(len(labels), 1))
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _HEIGHT * (1 - share) + 12
        parts.append(f'<path d="M{_LEFT} {y:g}H{_WIDTH}" stroke="#e5e7eb"/>')
        if share == 1 or most > 1:
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:g}" class="row">{count_text(most * share)}</text>')
    for bin_, label in enumerate(labels):
        x, y = _LEFT + bin_ * step, float(_HEIGHT + 12)
        for number, (name, counts) in enumerate(series.items()):
            height = counts[bin_] / most * _HEIGHT
            y -= height
            if height:
                parts.append(
                    f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}" '
                    f'fill="{COLORS[number % len(COLORS)]}"><title>{escape(name)}, {escape(label)}: '
                    f"{counts[bin_]:,}</title></rect>"
                )
        if bin_ % label_every == 0:
            parts.append(f'<text x="{x + 2:.1f}" y="{_HEIGHT + 28}" class="left sub">{escape(label)}</text>')
    parts.append(f'<text x="{_WIDTH}" y="{_HEIGHT + _BOTTOM + 8}" class="row">{escape(axis)}</text>')
    return _svg(_HEIGHT + _BOTTOM + 14, axis, parts) + legend(series)


def shares(rows: Mapping[str, Mapping[str, float]]) -> str:
    """A bar of full width for each row, cut in proportion to its values; names -> name -> value."""
    parts, height = [], 40
    for line, (title, values) in enumerate(rows.items()):
        y, x, total = 6 + line * height, 120.0, sum(values.values()) or 1
        parts.append(f'<text x="112" y="{y + 18}" class="row">{escape(title)}</text>')
        for number, (name, value) in enumerate(values.items()):
            width = value / total * (_WIDTH - 120)
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="26" fill="{COLORS[number % len(COLORS)]}">'
                f"<title>{escape(name)}: {value / total:.2%}</title></rect>"
            )
            if width > 46:
                parts.append(f'<text x="{x + width / 2:.1f}" y="{y + 18}" class="rank">{value / total:.1%}</text>')
            x += width
    return _svg(len(rows) * height + 6, "shares", parts) + legend(next(iter(rows.values()), {}))


def ranked(rows: Sequence[tuple[str, int, str]]) -> str:
    """Horizontal bars: (name, length, what stands behind it)."""
    most = max((row[1] for row in rows), default=0) or 1
    parts = []
    for line, (name, value, text) in enumerate(rows):
        y, width = 4 + line * 25, max(1.5, value / most * 430)
        parts.append(f'<text x="292" y="{y + 15}" class="row">{escape(name)}</text>')
        parts.append(
            f'<rect x="300" y="{y}" width="{width:.1f}" height="20" rx="2" fill="#dc2626" fill-opacity=".75"/>'
        )
        parts.append(f'<text x="{308 + width:.1f}" y="{y + 15}" class="left sub">{escape(text)}</text>')
    return _svg(len(rows) * 25 + 6, "reasons", parts)


def legend(names: Mapping[str, object]) -> str:
    """Which colour is which, when there is more than one."""
    if len(names) < 2:
        return ""
    items = (
        f'<span><i style="background:{COLORS[number % len(COLORS)]}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(items)}</p>'


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="diagram" viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
