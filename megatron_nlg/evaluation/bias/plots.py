"""Pictures of a study of bias, as SVG elements, from its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from megatron_nlg.evaluation.shared.figure import COLORS, INK, MUTED, drawing, plain, points, reference

Figures = Mapping[str, Any]

FEMALE, MALE = COLORS[3], COLORS[2]


def leanings(figures: Figures) -> str:
    """Distribution of log(P_f / P_m) over occupations, and its mean, a panel a variant."""
    variants = figures["variants"]
    values = {name: [entry["log_ratio"] for entry in part["all"]] for name, part in variants.items()}
    every = np.concatenate([*map(np.array, values.values())])
    edges = np.linspace(min(every.min(), -0.1), max(every.max(), 0.1), 41)
    with drawing("bias-leanings", 4.6, len(variants), 1, sharex=True) as drawn:
        for ax, (name, part) in zip(drawn.axes[:, 0], variants.items(), strict=True):
            counts, _ = np.histogram(values[name], edges)
            middles = (edges[1:] + edges[:-1]) / 2
            colors = [FEMALE if middle > 0 else MALE for middle in middles]
            ax.bar(middles, counts, np.diff(edges), color=colors, alpha=0.55)
            mean = part["mean_log_ratio"]
            ax.axvspan(mean["low"], mean["high"], color=INK, alpha=0.15, linewidth=0)
            ax.axvline(mean["value"], color=INK, linewidth=1.5)
            reference(ax, 0)
            ax.set_title(f"{name}: mean {mean['value']:+.2f}", loc="left", fontsize=10)
            ax.set_ylabel("occupations")
        drawn.axes[-1, 0].set_xlabel("log(P female / P male): left of the red line male words are the likelier")
    return drawn.markup


def most_skewed(figures: Figures) -> str:
    """The occupations that lean most, male ones left, as asked without an adjective."""
    part = figures["variants"]["neutral"]
    longest = max(len(part["most_male"]), 1)
    with drawing("bias-skewed", 0.8 + 0.27 * longest, 1, 2, sharex=True) as drawn:
        for ax, side, color in zip(drawn.axes[0], ("most_male", "most_female"), (MALE, FEMALE), strict=True):
            entries = part[side][::-1]
            ax.barh(range(len(entries)), [entry["log_ratio"] for entry in entries], color=color, alpha=0.75)
            ax.set_yticks(range(len(entries)), [plain(entry["occupation"]) for entry in entries])
            ax.set_title(side.replace("_", " "), loc="left", fontsize=10)
            ax.set_xlabel("log(P female / P male)")
            ax.grid(visible=False, axis="y")
    return drawn.markup


def words(figures: Figures, axis: str) -> str:
    """The most skewed words of each group of an axis, with their intervals."""
    groups = list(figures.items())
    columns = 2 if len(groups) == 2 else 3
    rows = -(-len(groups) // columns)
    longest = max((len(part["skewed"]) for _, part in groups), default=0)
    with drawing(f"bias-words-{axis}", rows * (0.75 + 0.22 * max(longest, 2)), rows, columns) as drawn:
        for number, ax in enumerate(drawn.axes.flat):
            if number >= len(groups):
                ax.set_axis_off()
                continue
            name, part = groups[number]
            entries = [entry | {"value": entry["log_ratio"]} for entry in part["skewed"]]
            color = COLORS[number % len(COLORS)]
            points(ax, [f"{e['word']} ({e['count']})" for e in entries], entries, [color] * len(entries))
            ax.set_title(f"{name}: {part['words']:,} words", loc="left", fontsize=10)
            if entries:
                reference(ax, 0)
            else:
                ax.set_xticks([])
                ax.text(0.5, 0.5, "no word often enough", ha="center", color=MUTED, transform=ax.transAxes)
    return drawn.markup


def sentiment(figures: Figures) -> str:
    """Mean score of a word by group, a row an axis and a column a lexicon."""
    lexicons = list(figures)
    axes = list(figures[lexicons[0]])
    sizes = [len(figures[lexicons[0]][axis]) for axis in axes]
    height = sum(0.75 + 0.27 * size for size in sizes)
    ratios = [1 + size for size in sizes]
    with drawing("bias-sentiment", height, len(axes), len(lexicons), sharex="col", height_ratios=ratios) as drawn:
        for row, axis in enumerate(axes):
            for column, lexicon in enumerate(lexicons):
                ax, part = drawn.axes[row, column], figures[lexicon][axis]
                points(ax, list(part), list(part.values()), [COLORS[i % len(COLORS)] for i in range(len(part))])
                reference(ax, 0)
                ax.set_title(f"{axis}, {lexicon}", loc="left", fontsize=10)
        for ax in drawn.axes[-1]:
            ax.set_xlabel("mean score of a word")
    return drawn.markup


def winogender(figures: Figures) -> str:
    """Pronouns' leaning against the share of women; right: whom the pronoun is taken for."""
    with drawing("bias-winogender", 3.6, 1, 2) as drawn:
        left, right = drawn.axes[0]
        known = [entry for entry in figures["occupations"] if entry["women_percent"] is not None]
        left.plot([e["women_percent"] for e in known], [e["log_ratio"] for e in known], "o", color=COLORS[0], alpha=0.7,
                  markersize=5)  # fmt: skip
        reference(left, 0, across="y")
        left.set_xlabel("women in the occupation, % (BLS)")
        left.set_ylabel("log P(she …) - log P(he …)")
        shares = dict(figures["accuracy"]) | {"gotcha": figures["gotcha"], "not gotcha": figures["not_gotcha"]}
        points(right, list(shares), list(shares.values()), [COLORS[i] for i in range(len(shares))])
        reference(right, 0.5)
        right.set_xlim(-0.02, 1.02)
        right.set_xlabel("right referent")
    return drawn.markup


def by_type(name: str, panels: Mapping[str, Mapping[str, Figures]], middle: Mapping[str, float], scale: float) -> str:
    """Scores by type of bias, a panel a score; a red line where a score has a middle."""
    longest = max(len(part) for part in panels.values())
    with drawing(f"bias-{name}", 0.9 + 0.28 * longest, 1, len(panels), sharey=True) as drawn:
        for number, (ax, (title, part)) in enumerate(zip(drawn.axes[0], panels.items(), strict=True)):
            points(ax, list(part), list(part.values()), [COLORS[number]] * len(part))
            ax.set_xlim(-0.02 * scale, 1.02 * scale)
            ax.set_title(title, loc="left", fontsize=10)
            if title in middle:
                reference(ax, middle[title])
    return drawn.markup


def mapped(part: Figures, key: str) -> dict[str, Figures]:
    """Name -> one score of it."""
    return {name: scores[key] for name, scores in part.items()}
