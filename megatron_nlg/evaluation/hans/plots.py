"""Pictures of a HANS study, as SVG elements, from its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from megatron_nlg.evaluation.hans.reader import HEURISTICS
from megatron_nlg.evaluation.shared.figure import COLORS, INK, MUTED, drawing, points, reference

Figures = Mapping[str, Any]

HALVES = {"entailed": COLORS[0], "non-entailed": COLORS[1], "controls": COLORS[7]}
SHORT = {"lexical_overlap": "lexical overlap", "subsequence": "subsequence", "constituent": "constituent"}


def plain_ones(conditions: Sequence[Figures]) -> list[Figures]:
    """Conditions with the shots' own labels in their first order."""
    return [c for c in conditions if c["condition"]["labels"] == "true" and c["condition"]["order"] == 0]


def by_shots(conditions: Sequence[Figures]) -> str:
    """Accuracy of all, of each half, calibrated and with a moved threshold, by the number of shots."""
    rows = plain_ones(conditions)
    series = [
        ("as answered", "accuracy", INK),
        ("entailed half", "accuracy_entailed", COLORS[0]),
        ("non-entailed half", "accuracy_non_entailed", COLORS[1]),
        ("calibrated without content", "calibrated", COLORS[2]),
        ("threshold from held-out examples", "held_out", COLORS[3]),
    ]
    with drawing("hans-shots", 3.4) as drawn:
        ax = drawn.axes[0, 0]
        for number, (label, key, color) in enumerate(series):
            x = np.arange(len(rows)) + (number - 2) * 0.12
            y = [row[key]["value"] for row in rows]
            low, high = (np.abs([row[key][end] - row[key]["value"] for row in rows]) for end in ("low", "high"))
            ax.errorbar(x, y, [low, high], fmt="o", color=color, label=label, markersize=6, elinewidth=2)
        reference(ax, 0.5, across="y")
        ax.set_xticks(range(len(rows)), [row["name"] for row in rows])
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlim(-0.6, len(rows) - 0.4)
        ax.set_ylabel("accuracy")
        drawn.figure.legend(loc="outside upper center", ncols=5, fontsize=9)
    return drawn.markup


def by_heuristic(conditions: Sequence[Figures]) -> str:
    """Accuracy of the two halves of each heuristic: as answered, and open, with the moved threshold."""
    rows = plain_ones(conditions)
    with drawing("hans-heuristic", 3.0, 1, len(rows), sharey=True) as drawn:
        for ax, row in zip(drawn.axes[0], rows, strict=True):
            for number, half in enumerate(("entailed", "non_entailed")):
                x = np.arange(3) + (number - 0.5) * 0.36
                groups = [row["by_heuristic"][h] for h in HEURISTICS]
                y = [group[half]["value"] or 0 for group in groups]
                low, high = (np.abs([(g[half][end] or 0) - v for g, v in zip(groups, y, strict=True)])
                             for end in ("low", "high"))  # fmt: skip
                color = HALVES[half.replace("_", "-")]
                ax.bar(x, y, 0.34, color=color, alpha=0.85, label=half.replace("_", "-"))
                ax.errorbar(x, y, [low, high], fmt="none", ecolor=INK, elinewidth=1.1)
                moved = [group[f"{half}_moved"]["value"] for group in groups]
                ax.plot(x, moved, "D", color="white", markeredgecolor=INK, markersize=5, linestyle="none",
                        label="with the moved threshold" if number else None)  # fmt: skip
            reference(ax, 0.5, across="y")
            ax.set_xticks(range(3), [SHORT[h].replace(" ", "\n") for h in HEURISTICS])
            ax.set_ylim(0, 1.05)
            ax.set_title(row["name"], loc="left", fontsize=10)
            ax.grid(visible=False, axis="x")
        drawn.axes[0, 0].set_ylabel("accuracy")
        handles, labels = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9)
    return drawn.markup


def histograms(conditions: Sequence[Figures]) -> str:
    """Log-odds of True over False, a panel a condition; shares of each group."""
    rows = plain_ones(conditions)
    with drawing("hans-log-odds", 1.9 * len(rows) + 0.4, len(rows), 1) as drawn:
        for ax, row in zip(drawn.axes[:, 0], rows, strict=True):
            edges = np.array(row["histogram"]["edges"])
            for name, counts in row["histogram"]["counts"].items():
                total = sum(counts) or 1
                fill = name != "controls"
                ax.stairs(np.array(counts) / total, edges, color=HALVES[name], label=name, fill=fill,
                          alpha=0.45 if fill else 1.0, linewidth=1.6)  # fmt: skip
            reference(ax, 0)
            ax.axvline(row["held_out"]["threshold"], color=INK, linewidth=1, label="held-out threshold")
            ax.set_title(row["name"], loc="left", fontsize=10)
            ax.set_ylabel("share")
        drawn.axes[-1, 0].set_xlabel("log P(True) - log P(False), nats")
        handles, labels = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=9)
    return drawn.markup


def curves(conditions: Sequence[Figures]) -> str:
    """Accuracy as a function of the threshold, a panel a condition."""
    rows = plain_ones(conditions)
    looks = {
        "all": (INK, "-", 2.2),
        "entailed": (COLORS[0], "--", 1.3),
        "non-entailed": (COLORS[1], "--", 1.3),
        "lexical_overlap": (COLORS[2], "-", 1.4),
        "subsequence": (COLORS[3], "-", 1.4),
        "constituent": (COLORS[4], "-", 1.4),
    }
    with drawing("hans-threshold", 3.2, 1, len(rows), sharey=True) as drawn:
        for ax, row in zip(drawn.axes[0], rows, strict=True):
            curve = row["threshold_curve"]
            for name, (color, style, width) in looks.items():
                if name in curve["accuracy"]:
                    ax.plot(curve["thresholds"], curve["accuracy"][name], style, color=color, linewidth=width,
                            label=SHORT.get(name, name))  # fmt: skip
            reference(ax, 0)
            ax.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=":")
            ax.set_title(row["name"], loc="left", fontsize=10)
            ax.set_xlabel("threshold on the log-odds")
            ax.set_ylim(-0.03, 1.03)
        drawn.axes[0, 0].set_ylabel("accuracy")
        handles, labels = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=9)
    return drawn.markup


def ranking(conditions: Sequence[Figures]) -> str:
    """Area under the curve within each heuristic, and the reliance on it."""
    rows = plain_ones(conditions)
    labels = [f"{SHORT[h]}, {row['name']}" for row in rows for h in HEURISTICS]
    colors = [COLORS[2 + number] for _ in rows for number in range(3)]
    titles = {
        "auc": "reading: entailed above non-entailed",
        "reliance": "reliance: non-entailed above controls",
    }
    with drawing("hans-ranking", 0.5 + 0.26 * len(labels) + 0.5, 1, 2, sharey=True) as drawn:
        for ax, (key, title) in zip(drawn.axes[0], titles.items(), strict=True):
            points(ax, labels, [row["by_heuristic"][h][key] for row in rows for h in HEURISTICS], colors)
            reference(ax, 0.5)
            ax.set_xlim(-0.02, 1.02)
            ax.set_title(title, loc="left", fontsize=10)
            ax.set_xlabel("area under the curve")
    return drawn.markup


def subcases(conditions: Sequence[Figures]) -> str:
    """Accuracy of each subcase as answered, a colour a number of shots; entailed ones left, the others right."""
    rows = plain_ones(conditions)
    known = {name: entry for row in rows for name, entry in row["by_subcase"].items()}
    order = sorted(known, key=lambda name: (HEURISTICS.index(known[name]["heuristic"]), name))
    sides = [[name for name in order if known[name]["entailed"] is side] for side in (True, False)]
    with drawing("hans-subcase", 0.9 + 0.27 * max(map(len, sides)), 1, 2) as drawn:
        for ax, names, title in zip(drawn.axes[0], sides, ("entailed", "not entailed"), strict=True):
            for number, row in enumerate(rows):
                there = [name for name in names if name in row["by_subcase"]]
                x = [row["by_subcase"][name]["accuracy"]["value"] for name in there]
                y = [len(names) - 1 - names.index(name) + (number - len(rows) / 2 + 0.5) * 0.2 for name in there]
                ax.plot(x, y, "o", color=COLORS[number % len(COLORS)], markersize=5.5, label=row["name"], alpha=0.85)
            reference(ax, 0.5)
            ax.set_yticks(range(len(names)), [name.replace("_", " ").replace("$", r"\$") for name in names[::-1]])
            ax.set_xlim(-0.04, 1.04)
            ax.set_title(title, loc="left", fontsize=10)
            ax.set_xlabel("accuracy")
        handles, labels = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=9)
    return drawn.markup


def variants(conditions: Sequence[Figures]) -> str:
    """Accuracy and ranking of every condition, variants included."""
    rows = sorted(conditions, key=lambda c: (c["condition"]["shots"], c["condition"]["labels"] != "true"))
    kinds = [("shuffled" if r["condition"]["labels"] != "true" else r["condition"]["order"] > 0) for r in rows]
    colors = [{"shuffled": COLORS[4], True: COLORS[5], False: COLORS[0]}[kind] for kind in kinds]
    titles = {
        "accuracy": "accuracy as answered",
        "held_out": "with a held-out threshold",
        "auc": "area under the curve",
    }
    with drawing("hans-variants", 0.9 + 0.3 * len(rows), 1, 3, sharey=True) as drawn:
        for ax, (key, title) in zip(drawn.axes[0], titles.items(), strict=True):
            points(ax, [row["name"] for row in rows], [row[key] for row in rows], colors)
            reference(ax, 0.5)
            ax.set_xlim(-0.02, 1.02)
            ax.set_title(title, loc="left", fontsize=10)
    return drawn.markup


def growth(steps: Sequence[int], by_step: Sequence[Sequence[Figures]]) -> str:
    """Accuracy, ranking and reliance over a run's checkpoints, a colour a number of shots."""
    names = [row["name"] for row in plain_ones(by_step[0])]
    panels = {
        "accuracy": "accuracy",
        "auc": "area under the curve",
        "reliance": "reliance on overlap",
        "said_true": "said True",
    }
    with drawing("hans-growth", 5.4, 2, 2, sharex=True) as drawn:
        for ax, (key, title) in zip(drawn.axes.flat, panels.items(), strict=True):
            for number, name in enumerate(names):
                found = [next(r for r in plain_ones(rows) if r["name"] == name) for rows in by_step]
                values = [r["answer_bias"][key] if key == "said_true" else r[key] for r in found]
                y, low, high = ([value[k] for value in values] for k in ("value", "low", "high"))
                color = COLORS[number % len(COLORS)]
                ax.plot(steps, y, "o-", color=color, label=name, markersize=4.5)
                ax.fill_between(steps, low, high, color=color, alpha=0.13, linewidth=0)
            reference(ax, 0.5, across="y")
            ax.set_title(title, loc="left", fontsize=10)
            ax.set_ylim(-0.03, 1.03)
        for ax in drawn.axes[-1]:
            ax.set_xlabel("step")
        handles, labels = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=9)
    return drawn.markup
