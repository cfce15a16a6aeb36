"""The report of a HANS study: what it says in words, then its pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from data_prep.report.html import document, section, table
from megatron_nlg.evaluation.hans import plots
from megatron_nlg.evaluation.hans.prompts import question
from megatron_nlg.evaluation.hans.reader import HEURISTICS
from megatron_nlg.evaluation.shared.figure import header, number, percent, shown, statement

Figures = Mapping[str, Any]

CLEAR = 0.1
"""Of an area under the curve: so far from 1/2 that the words below call it so."""


def page(study: Figures) -> str:
    """The whole page, from what figures.json holds; the newest checkpoint is shown in full."""
    rows = study["checkpoints"][-1]["conditions"]
    plain = plots.plain_ones(rows)
    title = f"HANS: {study['run']}, step {study['checkpoints'][-1]['step']:,}"
    lead = (
        f"{plain[0]['examples']:,} examples of {study['file']}, seed {study['settings']['seed']}; intervals of 95 %: "
        "Wilson's of shares, DeLong's of areas, bootstrap of means."
    )
    facts = [(percent(row["accuracy"]).split(" (")[0] + " %", f"right, {row['name']}") for row in plain]
    facts += [(number(row["auc"]["value"]), f"area under the curve, {row['name']}") for row in plain]
    sections = [
        section("What it says", "Read off the figures below, by fixed rules.", statement(verdicts(plain))),
        section("Accuracy", "Red: what chance gives.", plots.by_shots(rows), _overall(rows)),
        section("By heuristic and half", _HALVES, plots.by_heuristic(rows), _heuristics(plain)),
        section("Log-odds", _ODDS, plots.histograms(rows)),
        section("Accuracy at a moved threshold", _MOVED, plots.curves(rows)),
        section("Bias or reliance", _RELIANCE, plots.ranking(rows)),
        section("By subcase", "Of the answers as given.", plots.subcases(rows), _subcases(plain)),
        _variants(rows),
        _growth(study),
        section(
            "How it was asked", escape(_how(study)), f"<pre>{escape(question('PREMISE', 'HYPOTHESIS'))} True</pre>"
        ),
    ]
    return document(escape(title), header(title, lead, facts), sections)


_HALVES = (
    "In HANS all words of a hypothesis are in its premise. A model that takes overlap for entailment is right on one "
    "half and wrong on the other; so is one that just likes to say True. Diamonds: with the threshold from held-out "
    "examples."
)
_ODDS = (
    "True is said right of the red line. An answer bias moves everything; a reliance on overlap moves the two halves "
    "of HANS, but not the controls, whose hypothesis is another example's and shares few words with the premise."
)
_MOVED = (
    "A bias can be moved away: then the curve of all rises above chance elsewhere than at 0. What no threshold repairs "
    "is not a bias of the answer."
)
_RELIANCE = (
    "Left: does the model tell what follows from what does not, whatever its threshold (1: always, 1/2: "
    "it guesses)? Right: does it believe what does not follow, but overlaps, more than what neither follows nor "
    "overlaps (1: it relies on overlap, 1/2: it does not)?"
)


def verdicts(rows: Sequence[Figures]) -> list[str]:
    """Sentences about each condition: answer bias, reading, reliance."""
    lines = []
    for row in rows:
        bias, area, reliance = row["answer_bias"], row["auc"], row["reliance"]
        said, gain = bias["said_true"]["value"], bias["gain_of_moved_threshold"]
        text = f"{row['name']}: says True {100 * said:.0f} % of the time where half would be right"
        text += "; an answer bias" if abs(said - 0.5) > CLEAR else "; no clear answer bias"
        text += f", and a moved threshold changes accuracy by {100 * (gain['value'] or 0):+.1f} points."
        text += f" Areas under the curve: {shown(area, '.2f')} for reading,"
        text += " better than chance" if (area["low"] or 0) > 0.5 else " no better than chance"
        text += f"; {shown(reliance, '.2f')} for overlap against controls,"
        relies = (reliance["low"] or 0) > 0.5 and (reliance["value"] or 0) > 0.5 + CLEAR
        lines.append(text + (" a reliance on overlap." if relies else " no clear reliance on overlap."))
    lines.append(
        "HANS alone can't tell that a model understands: it shows which shortcuts explain its answers. A small sample, "
        "or a file that is not the published one, is not comparable with published figures."
    )
    return lines


def _overall(rows: Sequence[Figures]) -> str:
    heads = ("condition", "#accuracy, %", "#entailed, %", "#non-entailed, %", "#calibrated, %",
             "#held-out, %", "#area")  # fmt: skip
    keys = ("accuracy", "accuracy_entailed", "accuracy_non_entailed", "calibrated", "held_out")
    return table(
        heads,
        [(r["name"], *(percent(r[k]) for k in keys), shown(r["auc"], ".3f")) for r in rows],
    )


def _heuristics(rows: Sequence[Figures]) -> str:
    heads = ("condition", "heuristic", "#accuracy, %", "#entailed, %", "#non-entailed, %", "#area", "#against controls")
    cells = []
    for row in rows:
        for name in HEURISTICS:
            group = row["by_heuristic"][name]
            shares = (percent(group[key]) for key in ("all", "entailed", "non_entailed"))
            cells.append((row["name"], name.replace("_", " "), *shares, shown(group["auc"]), shown(group["reliance"])))
    return table(heads, cells)


def _subcases(rows: Sequence[Figures]) -> str:
    heads = ("subcase", "entailed", *(f"#{row['name']}, %" for row in rows))
    names = sorted({name for row in rows for name in row["by_subcase"]})
    cells = []
    for name in names:
        found = [row["by_subcase"].get(name) for row in rows]
        first = next(entry for entry in found if entry)
        shares = [percent(entry["accuracy"]) if entry else "–" for entry in found]
        cells.append((name.replace("_", " "), "yes" if first["entailed"] else "no", *shares))
    return f"<details><summary>All subcases</summary>{table(heads, cells)}</details>"


def _variants(rows: Sequence[Figures]) -> str:
    if len(rows) == len(plots.plain_ones(rows)):
        return ""
    note = (
        "Blue: the shots as they are. Teal: the same shots in other orders. Pink: their labels among each other "
        "shuffled; a model that loses nothing thereby has taken the form of the task from the shots, not the task."
    )
    return section("Shuffled labels and orders", note, plots.variants(rows))


def _growth(study: Figures) -> str:
    points = study["checkpoints"]
    if len(points) < 2:
        return ""
    note = "Each checkpoint was asked the same questions. Bands are intervals of 95 %."
    return section("Over the run", note, plots.growth([p["step"] for p in points], [p["conditions"] for p in points]))


def _how(study: Figures) -> str:
    settings = study["settings"]
    return (
        f"The answer is the more probable of “ True” and “ False”. Shots come from {settings['shot_pool']} examples of "
        f"their own, half of each label, in up to {settings['shot_sets']} draws that the examples of each heuristic "
        f"and half take in turns. The threshold of {settings['held_out']} held-out examples is the one with most right "
        "answers there. Calibrated: the log-odds of questions about “N/A”, nothing and “[MASK]” are taken off (Zhao et "
        f"al. 2021). Controls: {settings['controls']} premises with a hypothesis of another example."
    )
