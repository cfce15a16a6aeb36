"""The picture of a verification: the curves on top of each other, and how far each is from the reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FLOOR = 1e-9
"""Differences of 0 are drawn here, on the logarithmic axis."""


def draw(path: Path, title: str, curves: Mapping[str, Mapping[str, Any]], reference: str, limit: float) -> None:
    """Write a PNG: loss by step of every layout, and its relative difference from the reference's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5 + 0.05 * len(curves)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    want = curves[reference]["losses"]
    steps = range(1, len(want) + 1)
    for curve in curves.values():
        above.plot(steps, curve["losses"], color="#2563eb", alpha=0.35, linewidth=1.2)
    above.plot(steps, want, color="#111827", linewidth=1, linestyle="--", label=f"reference: {reference}")
    above.set_ylabel("loss, nats per token")
    above.set_title(f"{title}: {len(curves)} layouts", loc="left")
    above.legend(frameon=False)
    for name, curve in curves.items():
        if name != reference:
            off = [max(FLOOR, abs(g - w) / abs(w)) for g, w in zip(curve["losses"], want, strict=True)]
            below.plot(steps, off, linewidth=1, alpha=0.8, label=name)
    below.axhline(limit, color="#b91c1c", linewidth=1)
    below.annotate(f"limit {limit:g}", (1, limit), textcoords="offset points", xytext=(2, 4), color="#b91c1c")
    below.set_yscale("log")
    below.set_ylim(FLOOR / 2, None)
    below.set_ylabel("relative difference of the loss (0 is drawn at the bottom)")
    below.set_xlabel("step")
    figure.legend(*below.get_legend_handles_labels(), frameon=False, fontsize=7, ncols=3, loc="outside lower center")
    temporary = path.with_name(f".{path.stem}.tmp.png")
    figure.savefig(temporary, dpi=110)
    temporary.replace(path)
