"""`report.html` of a preparation: its stats.json to look at, and documents that each stage kept and dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from data_prep.report.bars import histogram, ranked, shares
from data_prep.report.flow import flow_diagram, stages_of
from data_prep.report.html import document, section, table
from data_prep.report.lengths import edge_labels, trimmed
from data_prep.report.samples import Sample
from data_prep.report.text import bytes_text, count_text
from data_prep.weights import HEADS, cells

_REASONS = 24

Samples = Mapping[str, tuple[Sequence[Sample], Sequence[Sample]]]
"""Stage -> documents that it kept, and that it dropped."""


def page(stats: Mapping[str, Any], samples: Samples) -> str:
    """The whole page as text. Everything that comes from files is escaped; parts without data are left out."""
    sources = list(next(iter(stats["stages"].values()))["sources"])
    title = escape(", ".join(sources[:4]) + (" …" if len(sources) > 4 else ""))
    sections = [
        _flow(stats),
        _reasons(stats),
        _lengths(stats),
        *_scores(stats),
        _duplicates(stats),
        _contamination(stats),
        _blend(stats),
        _samples(samples),
    ]
    return document(title, _header(stats, title, len(sources)), sections)


def _header(stats: Mapping[str, Any], title: str, sources: int) -> str:
    totals = [stage["total"] for stage in stats["stages"].values()]
    first, last = totals[0], totals[-1]
    facts = [
        (count_text(first["documents_in"]), f"documents in, {_size(first['bytes_in'])}"),
        (count_text(last["documents_out"]), f"documents out, {_size(last['bytes_out'])}"),
        (f"{last['bytes_out'] / max(1, first['bytes_in']):.1%}", "of the text is left"),
    ]
    if "tokens" in stats:
        tokens = sum(about["tokens"] for about in stats["tokens"].values())
        size = sum(about["bytes"] for about in stats["tokens"].values())
        facts += [(count_text(tokens), "tokens"), (f"{size / max(1, tokens):.2f}", "bytes a token")]
    if "tokenizer" in stats:
        facts.append((f"{stats['tokenizer']['vocab_size']:,}", f"vocabulary, {stats['tokenizer']['kind']}"))
    cards = "".join(f'<div class="fact"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in facts)
    word = "source" if sources == 1 else "sources"
    return (
        f'<h1>{title}<span class="badge good">prepared corpus</span></h1>\n'
        f'<p class="lead">{sources} {word}, {len(stats["stages"])} stages of documents</p>\n'
        f'<div class="facts">{cards}</div>'
    )


def _size(value: int) -> str:
    """Bytes, never broken between number and unit."""
    return bytes_text(value).replace(" ", "\u00a0")


def _flow(stats: Mapping[str, Any]) -> str:
    stages = stages_of(stats)
    rows = []
    for stage in (stage.name for stage in stages):
        for source, tally in stats["stages"][stage]["sources"].items():
            more = tally["documents_out"] - tally["documents_in"]
            rows.append(
                (
                    stage,
                    source,
                    f"{tally['documents_in']:,}",
                    f"{tally['documents_out']:,}",
                    f"{more / max(1, tally['documents_in']):+.1%}",
                    bytes_text(tally["bytes_in"]),
                    bytes_text(tally["bytes_out"]),
                )
            )
    heads = ("stage", "source", "#documents in", "#out", "#change", "#text in", "#text out")
    note = "Bands are as thick as their text is large, by source; red is what a stage dropped or cut."
    picture = flow_diagram(stages, stats.get("tokens", {}))
    numbers = f"<details><summary>By stage and source</summary>{table(heads, rows)}</details>"
    return section("Flow of documents", note, f'<div class="scroll">{picture}</div>', numbers)


def _reasons(stats: Mapping[str, Any]) -> str:
    rows = []
    for stage in stages_of(stats):
        for reason, documents, size in stage.reasons:
            text = f"{documents:,} document{'s' * (documents != 1)}, {bytes_text(size)}"
            rows.append((f"{stage.name}: {reason.replace('_', ' ')}", documents, text))
    if not rows:
        return section("Reasons of rejection", "Nothing was dropped.")
    most = sorted(rows, key=lambda row: -row[1])[:_REASONS]
    shown = [row for row in rows if row in most]
    note = "Documents, stage by stage in the order of the preparation." + (
        f" The {_REASONS} most frequent of {len(rows)}." if len(rows) > _REASONS else ""
    )
    return section("Reasons of rejection", note, ranked(shown))


def _lengths(stats: Mapping[str, Any]) -> str:
    parts = []
    for kind in ("bytes", "tokens"):
        series = {s: about["lengths"][kind] for s, about in stats.get("tokens", {}).items() if "lengths" in about}
        if series:
            first, shown = trimmed(series)
            labels = edge_labels(first, len(next(iter(shown.values()))))
            parts.append(histogram(labels, shown, f"{kind} in a document, from", 2))
    note = "Documents of the finished corpus by length; each pair of bars doubles it."
    return section("Lengths", note, *parts) if parts else ""


def _scores(stats: Mapping[str, Any]) -> list[str]:
    """Histograms over 0 to 1 that stages have left in their details, such as quality's."""
    out = []
    for stage, about in stats["stages"].items():
        for key, series in about.get("details", {}).items():
            if key.endswith("_histogram") and isinstance(series, dict) and series:
                bins = len(next(iter(series.values())))
                labels = [f"{i / bins:.2f}" for i in range(bins)]
                title = f"{stage.capitalize()}: {key.removesuffix('_histogram').replace('_', ' ')}"
                note = "All documents that came into the stage, kept or not."
                out.append(section(escape(title), note, histogram(labels, series, "from", 2)))
    return out


def _duplicates(stats: Mapping[str, Any]) -> str:
    about = stats.get("dedup")
    if not about:
        return ""
    numbers = [(key.replace("_", " "), f"{value:,}") for key, value in about.items() if isinstance(value, int)]
    parts = [table(("", "#"), numbers)]
    sizes = {int(size): count for size, count in about.get("sizes", {}).items()}
    if sizes:
        binned: dict[int, int] = {}
        for size, count in sizes.items():
            binned[size.bit_length() - 1] = binned.get(size.bit_length() - 1, 0) + count
        doublings = range(min(binned), max(binned) + 1)
        labels = [f"{1 << k:,}" for k in doublings]
        counts = {"clusters": [binned.get(k, 0) for k in doublings]}
        parts.append(histogram(labels, counts, "documents in a cluster, from"))
    large = about.get("over_max_cluster") or []
    if large:
        rows = [(str(row.get("first", "")), f"{row.get('documents', 0):,}") for row in large[:20]]
        parts.append(table(("clusters over the limit: first document", "#documents"), rows))
    return section("Duplicate clusters", "Of each cluster one document stays.", *parts)


def _contamination(stats: Mapping[str, Any]) -> str:
    about = stats.get("decontaminate")
    if not about:
        return ""
    counts = ", ".join(f"{about[key]:,} {key.replace('_', ' ')}" for key in about if key not in ("tasks", "pieces"))
    keys = ("n", "texts", "ngrams", "ngrams_found", "ngrams_spared", "occurrences", "documents")
    rows = [(name, *(f"{task[key]:,}" for key in keys)) for name, task in about["tasks"].items()]
    heads = ("task", "#n", "#texts", "#n-grams", "#found", "#spared", "#occurrences", "#documents cut")
    note = f"Documents: {counts}; {about['pieces']:,} pieces stay of them."
    return section("Evaluation examples", note, table(heads, rows))


def _blend(stats: Mapping[str, Any]) -> str:
    about = stats.get("blend")
    if not about:
        return ""
    picture = shares(
        {
            "has": {name: row["tokens"] for name, row in about["sources"].items()},
            "is read": {name: row["share"] for name, row in about["sources"].items()},
        }
    )
    note = (
        f"A training run of {about['budget']:,} tokens: {about['samples']:,} samples of {about['sequence_length']:,}. "
        "Above, the share of each source in the corpus; below, in what is read."
    )
    heads = [HEADS[0], *(f"#{head}" for head in HEADS[1:])]
    return section("Blend", note, picture, table(heads, cells(about)))


def _samples(samples: Samples) -> str:
    parts = []
    for stage, (kept, dropped) in samples.items():
        columns = "".join(
            f"<div><h3>{title}</h3>{''.join(map(_sample, some)) or '<p class=note>none</p>'}</div>"
            for title, some in (("kept", kept), ("dropped", dropped))
        )
        parts.append(f'<details><summary>{escape(stage)}</summary><div class="pair">{columns}</div></details>')
    note = "Up to ten documents that each stage kept and dropped, cut short; the same ones each time."
    return section("Samples", note, *parts) if parts else ""


def _sample(sample: Sample) -> str:
    note = f' <span class="why">{escape(sample.note)}</span>' if sample.note else ""
    text = f"<pre>{escape(sample.text)}</pre>" if sample.text else ""
    return f'<div class="sample"><p class="note">{escape(sample.id)}{note}</p>{text}</div>'
