"""Statistics of layers over steps as heat maps, from statistics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.report.figure import STYLE, svg

KINDS = {"grad_norm": "gradient norm", "weight_norm": "weight norm", "activation_rms": "RMS of the output"}


def heat_maps(rows: Sequence[dict[str, Any]]) -> str:
    """One map a statistic: layers from bottom to top, steps from left to right, logarithmic colours; an SVG element."""
    import matplotlib as mpl
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for row in rows for name in row["layers"]))
    with mpl.rc_context({**STYLE, "svg.hashsalt": "layers", "axes.grid": False}):
        figure = Figure(figsize=(10, 0.9 + 1.9 * len(KINDS)), layout="constrained")
        axes = figure.subplots(len(KINDS), 1, sharex=True)
        for ax, (key, label) in zip(axes, KINDS.items(), strict=True):
            table = np.array([[row["layers"].get(name, {}).get(key, np.nan) for row in rows] for name in names], float)
            shown = np.ma.masked_invalid(np.where(table > 0, table, np.nan))
            image = ax.imshow(
                shown,
                aspect="auto",
                origin="lower",
                interpolation="nearest",
                cmap="viridis",
                norm=LogNorm() if shown.count() else None,
            )
            ticks = sorted({*range(0, len(names), max(1, len(names) // 8)), len(names) - 1})
            ax.set_yticks(ticks, [names[i] for i in ticks], fontsize=8)
            ax.tick_params(length=0)
            figure.colorbar(image, ax=ax, label=label, pad=0.01)
        places = sorted({int(i) for i in np.linspace(0, len(rows) - 1, min(len(rows), 9))})
        axes[-1].set_xticks(places, [str(rows[i]["step"]) for i in places])
        axes[-1].set_xlabel("step")
        return svg(figure, "layers")
