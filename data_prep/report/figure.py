"""The look of matplotlib's figures on all pages of this project."""

from __future__ import annotations

import io
import warnings
from typing import Any

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"

STYLE = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "font.family": "sans-serif",
    "font.sans-serif": ["Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}


def svg(figure: Any, name: str) -> str:
    """A matplotlib figure as an SVG element; `name` makes its ids."""
    return element(svg_file(figure), name)


def svg_file(figure: Any) -> str:
    """A matplotlib figure as the text of an SVG file."""
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # matplotlib's fonts lack it; the reader's browser draws the text
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return out.getvalue()


def element(text: str, name: str) -> str:
    """The SVG element of such a file, to stand in a page with others."""
    found = text[text.index("<svg ") :]
    # Its size is the page's business; the view box keeps the proportions. Ids must not meet those of other charts.
    head, _, rest = found.partition(">")
    view_box = head[head.index("viewBox") :].split('"')[1]
    return f'<svg class="chart" viewBox="{view_box}" role="img" aria-label="{name}">' + rest.replace(
        'id="', f'id="{name}-'
    ).replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
