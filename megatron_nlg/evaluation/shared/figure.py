"""Parts of the studies' pages: figures in the project's look, numbers with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.report.drawing import drawing, header, number, plain, statement
from data_prep.report.figure import GRID, INK, MUTED
from data_prep.report.html import COLORS

CHANCE = "#b91c1c"


def points(ax: Any, labels: Sequence[str], estimates: Sequence[Mapping[str, Any]], colors: Sequence[str]) -> None:
    """Values with their intervals, one a line from the top, labels on the left."""
    places = np.arange(len(labels))[::-1]
    for place, estimate, color in zip(places, estimates, colors, strict=True):
        if estimate["value"] is not None:
            low, high = (estimate[key] if estimate[key] is not None else estimate["value"] for key in ("low", "high"))
            ax.plot([low, high], [place, place], color=color, linewidth=2.2, alpha=0.45, solid_capstyle="round")
            ax.plot(estimate["value"], place, "o", color=color, markersize=6)
    ax.set_yticks(places, [plain(label) for label in labels])
    ax.set_ylim(-0.7, len(labels) - 0.3)
    ax.grid(visible=False, axis="y")


def reference(ax: Any, at: float, text: str = "", across: str = "x") -> None:
    """A dashed line at what chance, or no difference, gives."""
    line = ax.axvline if across == "x" else ax.axhline
    line(at, color=CHANCE, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label=text or None)


def shown(estimate: Mapping[str, Any], form: str = ".3f", scale: float = 1.0) -> str:
    """`0.512 (0.481 to 0.543)`; a dash where there is no number."""
    if estimate["value"] is None:
        return "–"
    value = format(scale * estimate["value"], form)
    if estimate["low"] is None or estimate["high"] is None:
        return value
    return f"{value} ({format(scale * estimate['low'], form)} to {format(scale * estimate['high'], form)})"


def percent(estimate: Mapping[str, Any]) -> str:
    """`51.2 (48.1–54.3)`: a share in percent."""
    return shown(estimate, ".1f", 100).replace(" to ", "–")


__all__ = ["CHANCE", "COLORS", "GRID", "INK", "MUTED", "drawing", "header", "number", "percent", "plain", "points"]
__all__ += ["reference", "shown", "statement"]
