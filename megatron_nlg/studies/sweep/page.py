"""A sweep as one HTML page, and as a table on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from data_prep.report.drawing import header, number
from data_prep.report.html import document, section, table
from data_prep.report.text import count_text, duration_text
from megatron_nlg.studies.sweep import plots
from megatron_nlg.studies.sweep.grid import Axis
from megatron_nlg.studies.sweep.results import Row, Stable
from megatron_nlg.studies.sweep.rules import Rules
from megatron_nlg.studies.sweep.verdict import DIVERGED, FAILED, SPIKES, UNFINISHED

VERDICT_NOTE = (
    "Colours are verdicts, numbers the median loss of the last tenth of the steps. Diverged: a loss or gradient that "
    "is not finite, an end over {rise:g} nats above the run's own lowest level, or, after the warm-up, an end above "
    "where it began and above the uniform level. Spikes: it came back, but a loss lay {spike_margin:g} nats above both "
    "of these, or above the median of the {spike_window} losses before it by that and by {spike_factor:g} standard "
    "deviations. Not learnt: it ends above the uniform level, and never rose."
)
RATE_NOTE = (
    "Above: the largest rate that is stable, with no smaller one that is not. Below: the largest stable one that ends "
    "no more than {worse:g} nats above the best, for stable is not good. A triangle is the largest rate that was "
    "tried: the true limit may lie above; a cross: there is none. Lines are moved apart a little."
)
END_NOTE = "The median loss of the last tenth of the steps; crosses mark runs that diverged or had spikes."
CURVE_NOTE = (
    "Thin: the loss of every step; bold: a running mean, dashed with a cross at its end where the run diverged. "
    "Triangles are spikes, the dashed line is the uniform level, ln(vocabulary)."
)


def page(
    title: str, folder: Path, rows: Sequence[Row], stable: Sequence[Stable], axes: Sequence[Axis], rules: Rules
) -> str:
    """The whole page; its pictures go to the folder too. Everything that comes from files is escaped."""
    counts = Counter(row.verdict.word for row in rows)
    facts = [(str(count), word) for word, count in counts.most_common()]
    facts.append((duration_text(sum(row.seconds for row in rows)), "of training steps"))
    lead = f"{len(rows)} runs: " + "; ".join(f"{a.name} {', '.join(p.label for p in a.points)}" for a in axes)
    parts = [section("Verdicts", escape(VERDICT_NOTE.format(**vars(rules))), plots.maps(folder, rows, axes))]
    if stable:
        heads = (*stable[0].labels, "#parameters", *LIMITS)
        cells = [(*one.labels.values(), count_text(one.parameters), *limits_of(one)) for one in stable]
        note = RATE_NOTE.format(worse=rules.worse)
        parts.append(section("Largest rates", note, plots.rates(folder, stable), table(heads, cells)))
        parts.append(section("Loss by rate", END_NOTE, plots.ends(folder, stable, axes)))
    if any(row.losses for row in rows):
        parts.append(section("Loss curves", CURVE_NOTE, plots.curves(folder, rows, axes)))
    parts.append(section("Runs", "Each is an ordinary run folder beside this page.", table(HEADS, map(cells_of, rows))))
    failed = [(row.name, row.error or row.verdict.why) for row in rows if row.verdict.word in (FAILED, UNFINISHED)]
    if failed:
        parts.append(section("No verdict", "Runs that failed for another reason, or have not ended.",
                             table(("run", "why"), failed)))  # fmt: skip
    return document(escape(title), header(title, lead, facts), parts)


HEADS = ("run", "verdict", "", "#parameters", "#loss at the end", "#validation", "#steps", "#time")


def cells_of(row: Row) -> tuple[str, ...]:
    """A run's line in a table under HEADS."""
    return (
        row.name,
        row.verdict.word,
        row.verdict.why,
        "–" if row.parameters is None else count_text(row.parameters),
        number(row.verdict.final, ".3f"),
        number(row.validation, ".3f"),
        str(row.steps),
        duration_text(row.seconds),
    )


LIMITS = ("#largest stable rate", "#largest good rate", "#best rate")


def limits_of(one: Stable) -> tuple[str, str, str]:
    """A combination's rates under LIMITS."""
    return limit_text(one), number(one.good, "g"), number(one.best, "g")


def limit_text(one: Stable) -> str:
    """`0.003`, `≥ 0.03`, `< 0.001`, or a dash where nothing is known."""
    if one.largest is None:
        return f"< {one.rates[0]:g}" if one.words[0] in (DIVERGED, SPIKES) else "–"
    return f"{'≥ ' if one.is_bound else ''}{one.largest:g}"


def terminal_tables(rows: Sequence[Row], stable: Sequence[Stable]) -> list[Any]:
    """rich tables: runs with their verdicts, then the largest stable rates."""
    from rich.table import Table

    runs = Table(box=None, header_style="bold")
    for head in ("run", "verdict", "", "#loss at the end", "#steps"):
        runs.add_column(head.lstrip("#"), justify="right" if head.startswith("#") else "left", overflow="fold")
    for row in rows:
        style = {"stable": None, "diverged": "red", "failed": "red bold"}.get(row.verdict.word, "yellow")
        final = number(row.verdict.final, ".3f")
        runs.add_row(row.name, row.verdict.word, row.verdict.why, final, str(row.steps), style=style)
    if not stable:
        return [runs]
    limits = Table(box=None, header_style="bold")
    for name in (*stable[0].labels, "parameters", *LIMITS):
        limits.add_column(name.lstrip("#"))
    for one in stable:
        limits.add_row(*one.labels.values(), count_text(one.parameters), *limits_of(one))
    return [runs, limits]
