"""The book as one HTML page: checkpoints side by side, settings below each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

from data_prep.report.html import document, section, table
from megatron_nlg.evaluation.samples.book import Column
from megatron_nlg.evaluation.samples.prompts import Entry, PromptFile

TABLE = "table-layout:fixed"
FIRST = "width:130px"
CELL = (
    "white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"
)
HIT = '<span class="badge good">answered</span>'
NOTE = (
    "Prompts are blue; below each, what the model wrote after it, without surplus blank lines. “answered”: "
    "the first line has a word that was looked for. That is a hint, not a score: a right word may stand in a wrong "
    "sentence, and a good answer may use another word."
)


def page(book: PromptFile, entries: Sequence[Entry], columns: Sequence[Column]) -> str:
    """The whole page. All text is escaped."""
    names = ", ".join(column.name for column in columns)
    header = f'<h1>Sample book</h1>\n<p class="lead">{escape(names)}</p>\n<p class="note">{NOTE}</p>'
    parts = [_hits(book, entries, columns)]
    texts = list(zip(entries, zip(*(column.texts for column in columns), strict=True), strict=True))
    for kind in book.kinds:
        rows = [pair for pair in texts if pair[0].kind == kind.kind]
        prompts = [_prompt(kind.before, list(group), columns) for _, group in groupby(rows, lambda p: p[0].number)]
        before = f'<div class="sample"><pre>{escape(kind.before)}</pre></div>' if kind.before else ""
        shown = f"<details><summary>What stands before each prompt</summary>{before}</details>" if before else ""
        parts.append(section(escape(kind.kind), escape(kind.note), shown, *prompts))
    parts.append(_settings(entries))
    return document("Sample book", header, parts)


def _prompt(before: str, rows: Sequence[tuple[Entry, tuple[str, ...]]], columns: Sequence[Column]) -> str:
    """A prompt, and below it a row of checkpoints for every setting."""
    entry = rows[0][0]
    text = entry.prompt[len(before) :].lstrip("\n") if before else entry.prompt
    looked = f'<p class="note">looked for: {escape(", ".join(entry.answers))}</p>' if entry.answers else ""
    heads = f'<th style="{FIRST}"></th>' + "".join(f"<th>{escape(column.name)}</th>" for column in columns)
    lines = "".join(
        f"<tr><td>{escape(row.setting)}</td>{''.join(_cell(new, row.found(new)) for new in texts)}</tr>"
        for row, texts in rows
    )
    return (
        f'<div class="sample"><pre><b>{escape(text)}</b></pre>{looked}</div>'
        f'<div class="scroll"><table style="{TABLE}"><tr>{heads}</tr>{lines}</table></div>'
    )


def _cell(text: str, found: bool | None) -> str:
    shown = re.sub(r"\n\s*\n\s*\n", "\n\n", text).strip("\n")
    body = escape(shown) if shown.strip() else '<span class="note">(nothing but blanks)</span>'
    return f'<td style="{CELL}">{body}{HIT if found else ""}</td>'


def _hits(book: PromptFile, entries: Sequence[Entry], columns: Sequence[Column]) -> str:
    """How many prompts of each kind were answered, by checkpoint and setting."""
    kinds = [kind.kind for kind in book.kinds if any(question.answers for question in kind.prompts)]
    if not kinds:
        return ""
    rows = []
    for column in columns:
        for name in book.settings:
            cells = []
            for kind in kinds:
                found = [
                    hit
                    for entry, text in zip(entries, column.texts, strict=True)
                    if (entry.kind, entry.setting) == (kind, name) and (hit := entry.found(text)) is not None
                ]
                cells.append(f"{sum(found)} of {len(found)}")
            rows.append((column.name, name, *cells))
    heads = ("checkpoint", "setting", *(f"#{kind}" for kind in kinds))
    return section("Answered", "Prompts whose continuation has a word that was looked for.", table(heads, rows))


def _settings(entries: Sequence[Entry]) -> str:
    rows = []
    for name, how in {entry.setting: entry.sampling for entry in entries}.items():
        chosen = (f"{how.temperature:g}", str(how.top_k or "all"), f"{how.top_p:g}", f"{how.repetition_penalty:g}")
        rows.append((name, *chosen))
    heads = ("setting", "#temperature", "#top-k", "#top-p", "#repetition penalty")
    return section("Settings", "A prompt is drawn with the same seed by all of them.", table(heads, rows))
