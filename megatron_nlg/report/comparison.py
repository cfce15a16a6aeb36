"""Several runs on one page: their curves laid over each other by tokens, their results and what they were set to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import cycle, islice
from statistics import median
from typing import Any

from data_prep.report.html import COLORS, document, section, table
from data_prep.report.text import count_text
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning.parameters import total_parameters
from megatron_nlg.report.charts import Panel, Series, chart
from megatron_nlg.report.page import number
from megatron_nlg.report.record import Record, Row

HIDDEN = ("data.index_cache", "log.wandb_project")
"""Settings whose differences say nothing of a run."""


def comparison(records: Sequence[Record]) -> str:
    """The page as text. A colour belongs to a run, everywhere."""
    names = unique_names(records)
    runs = list(zip(names, records, islice(cycle(COLORS), len(records)), strict=True))
    title = f"{len(records)} runs"
    lead = escape(", ".join(names))
    body = [_results(runs), _losses(runs), _validation(runs), _rates(runs), _settings(runs)]
    return document(title, f'<h1>{title}</h1>\n<p class="lead">{lead}</p>', body)


Named = tuple[str, Record, str]
"""Name, run, colour."""


def unique_names(records: Sequence[Record]) -> list[str]:
    """Folder names, with as much of the path before them as tells them apart."""
    paths = [record.folder.resolve() for record in records]
    depth = 1
    while True:
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names) or depth > max(len(path.parts) for path in paths):
            return names
        depth += 1


def _by_tokens(rows: Sequence[Row], key: str, record: Record) -> tuple[list[int], list[Any]]:
    """Tokens and values of rows; a validation row stands at the tokens of its step."""
    tokens = {row["step"]: row["tokens"] for row in record.steps}
    known = [(row.get("tokens", tokens.get(row["step"])), row.get(key)) for row in rows]
    kept = [(token, value) for token, value in known if token is not None]
    return [token for token, _ in kept], [value for _, value in kept]


def _losses(runs: Sequence[Named]) -> str:
    series = [
        Series(name, *_by_tokens(record.steps, "loss", record), color, "smooth")
        for name, record, color in runs
        if record.steps
    ]
    if not series:
        return section("Training loss", "No step has been logged yet.")
    note = "Mean over tokens, in nats, over the tokens trained on. Bold lines are running means."
    return section("Training loss", note, chart("loss", [Panel("loss", series)], [], 3.9, "tokens"))


def _validation(runs: Sequence[Named]) -> str:
    sources = list(dict.fromkeys(source for _, record, _ in runs for source in record.valid))
    panels = [
        Panel(
            source,
            [
                Series(name, *_by_tokens(record.valid[source], "loss", record), color, "points")
                for name, record, color in runs
                if source in record.valid
            ],
        )
        for source in sources
    ]
    if not panels:
        return ""
    return section("Validation loss", "By source.", chart("valid", panels, [], 2.4, "tokens"))


def _rates(runs: Sequence[Named]) -> str:
    panels = []
    for label, key, log in (
        ("learning rate", "lr", False),
        ("gradient norm", "grad_norm", True),
        ("tokens/s", "tokens_per_second", False),
    ):
        series = [
            Series(name, *_by_tokens(record.steps, key, record), color, "line" if key == "lr" else "smooth")
            for name, record, color in runs
            if record.steps
        ]
        panels.append(Panel(label, series, from_zero=not log, log=log))
    if not panels[0].series:
        return ""
    return section("Rates", "The gradient norm is taken before clipping.", chart("rates", panels, [], 1.9, "tokens"))


def _results(runs: Sequence[Named]) -> str:
    sources = list(dict.fromkeys(source for _, record, _ in runs for source in record.valid))
    heads = ("run", "", "#parameters", "layout", "#steps", "#tokens", "#loss", *(f"#{s}" for s in sources), "#tokens/s")
    rows = []
    for name, record, _ in runs:
        last = record.steps[-1] if record.steps else {}
        valid = [number(record.valid[s][-1]["loss"]) if s in record.valid else "–" for s in sources]
        rates = [row["tokens_per_second"] for row in record.steps if row["tokens_per_second"]]
        rows.append(
            (
                name,
                record.status,
                count_text(total_parameters(record.config.model)),
                str(record.layout or "–"),
                f"{last.get('step', 0):,}",
                count_text(last.get("tokens", 0)),
                number(last.get("loss")),
                *valid,
                count_text(median(rates)) if rates else "–",
            )
        )
    note = "Losses are the last ones, in nats per token: of training, and of each validation source."
    return section("Results", note, table(heads, rows))


def _settings(runs: Sequence[Named]) -> str:
    """What the configs do not share."""
    trees = [dict(flat(record.config)) for _, record, _ in runs]
    keys = list(dict.fromkeys(key for tree in trees for key in tree))
    differing = [key for key in keys if key not in HIDDEN and len({repr(tree.get(key)) for tree in trees}) > 1]
    if not differing:
        return section("Settings", "The configs are the same.")
    rows = [(key, *(_plain(tree.get(key)) for tree in trees)) for key in differing]
    return section("Settings", "Those in which the runs differ.", table(("", *(name for name, _, _ in runs)), rows))


def flat(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting."""
    yield from _leaves("", config.model_dump(mode="json", by_alias=True))


def _leaves(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def _plain(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
