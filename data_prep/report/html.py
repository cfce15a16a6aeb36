"""The look of all pages of this project: one HTML file each, without outside assets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

COLORS = ("#2563eb", "#ea580c", "#059669", "#7c3aed", "#db2777", "#0891b2", "#a16207", "#475569")
"""Of series and sources, in their order."""

STYLE = """
:root{--ink:#1f2937;--muted:#6b7280;--line:#e5e7eb;--paper:#fff;--ground:#f6f7f9;--blue:#2563eb}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
  font:15px/1.5 "Segoe UI","Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;margin:0;line-height:1.2}
h2{font-size:18px;margin:0 0 4px}
p{margin:4px 0}
.lead,.note{color:var(--muted)}
.note{font-size:13.5px;max-width:112ch}
section{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:20px 24px;margin-top:18px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:12px;margin-top:20px}
.fact{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:12px 14px}
.fact b{display:block;font-size:17px;font-weight:600;line-height:1.4;white-space:nowrap}
.fact span{color:var(--muted);font-size:13px}
.badge{display:inline-block;border-radius:999px;padding:1px 12px;font-size:13px;vertical-align:5px;margin-left:10px;
  background:#dbeafe;color:#1e40af}
.badge.good{background:#d1fae5;color:#065f46}.badge.bad{background:#fee2e2;color:#991b1b}
svg.chart,svg.diagram{width:100%;height:auto;display:block;margin-top:8px}
svg.chart text,svg.diagram text{font-family:inherit!important}
svg.diagram text{fill:var(--ink);font-size:13px;text-anchor:middle}
svg.diagram .left{text-anchor:start}svg.diagram .row{text-anchor:end;fill:var(--muted)}
svg.diagram .head{font-weight:600}svg.diagram .sub{fill:var(--muted);font-size:12px}
svg.diagram .drop{fill:#b91c1c;font-size:12px}
svg.diagram .rank{fill:#fff;font-weight:600;font-size:12px;pointer-events:none}
svg.diagram .dots{font-size:22px;fill:var(--muted)}
svg.diagram .box{fill:#f9fafb;stroke:#d1d5db}svg.diagram .arrow{fill:none;stroke:#9ca3af;stroke-width:1.6}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin-top:10px;font-size:14px}
th{text-align:left;color:var(--muted);font-weight:500;border-bottom:1px solid var(--line);padding:5px 14px 5px 0}
td{border-bottom:1px solid #f1f2f4;padding:5px 14px 5px 0;vertical-align:top}
td:first-child{white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.sample{border-left:3px solid var(--blue);padding:2px 0 2px 14px;margin:14px 0}
.sample pre,details pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font:14px/1.55 ui-monospace,Menlo,Consolas,
  "DejaVu Sans Mono",monospace}
.sample pre b{color:var(--blue)}
.legend span{margin-right:18px;font-size:13px;color:var(--muted)}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:28px}.pair>div{min-width:0}
.pair h3{font-size:14px;margin:14px 0 0;color:var(--muted);font-weight:600}
.pair .sample pre{font-size:12.5px;max-height:11em;overflow:auto}.why{color:#b91c1c}
details{margin-top:10px}
summary{cursor:pointer;font-weight:600}
details pre{margin-top:10px;font-size:13px}
@media print{body{background:#fff}section{break-inside:avoid}}
"""


def document(title: str, header: str, sections: Sequence[str]) -> str:
    """The page around its header and sections; `title` is escaped already."""
    body = "\n".join(part for part in sections if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · megatron_nlg</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{header}\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, note: str, *parts: str) -> str:
    """A titled part of the page; the note and parts are markup."""
    return f'<section>\n<h2>{title}</h2>\n<p class="note">{note}</p>\n{"".join(parts)}\n</section>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text, escaped here; a head that starts with # marks a column of numbers."""
    kinds = [' class="n"' if head.startswith("#") else "" for head in heads]
    top = "".join(f"<th{k}>{escape(head.lstrip('#'))}</th>" for head, k in zip(heads, kinds, strict=True))
    lines = "".join(
        "<tr>" + "".join(f"<td{k}>{escape(cell)}</td>" for cell, k in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{lines}</table></div>'
