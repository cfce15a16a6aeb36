"""A ladder as a picture, an HTML page and a table on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data_prep.report.drawing import drawing, header, number, plain
from data_prep.report.figure import INK
from data_prep.report.html import COLORS, document, section, table
from megatron_nlg.report.charts import short

Row = Mapping[str, Any]
HEADS = ("rung", "#tokens/s", "#step, ms", "#quartiles", "#memory, MiB", "#MFU", "#over the last", "#over the first",
         "#loss", "#largest difference")  # fmt: skip
NOTE = (
    "Each rung has the settings of those below it and its own. Model, vocabulary, sequence, batch and samples are the "
    "same on all; times are from the end of a step to the end of the next, the first {warmup} left out. {memory}"
)
MEMORY = {
    True: "Memory is the most that a rank's tensors took on its GPU.",
    False: "Memory is a rank's resident set beyond what it held before its model was built.",
}
LOSS_NOTE = (
    "The same batches on every rung. The largest difference of a step's loss from the first rung's is in the table: "
    "rounding in fp32, the precision of the format in the others."
)


def page(title: str, folder: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """The whole page; its picture goes to the folder too. Everything that comes from files is escaped."""
    done = [row for row in rows if "left_out" not in row]
    facts = [(f"{row['tokens_per_second']:,.0f}", f"tokens/s: {row['title']}") for row in (done[0], done[-1])]
    facts.append((f"{done[-1]['over_the_first']:.2f} ×", f"over {len(done)} rungs"))
    lead = f"{about['model']}; {about['batch']}; {done[0]['device']}"
    note = NOTE.format(warmup=about["warmup"], memory=MEMORY[bool(about["gpus"])])
    parts = [section("Rungs", escape(note), speeds(folder, done), table(HEADS, map(cells, done)))]
    parts.append(section("Loss", LOSS_NOTE, losses(folder, done)))
    absent = [(row["title"], row["left_out"]) for row in rows if "left_out" in row]
    if absent:
        parts.append(section("Left out", "Rungs without figures, and why.", table(("rung", "why"), absent)))
    study = [
        (row["title"], f"{row['published_tokens_per_second']:,}") for row in rows if row["published_tokens_per_second"]
    ]
    if study:
        note = (
            "The GPT-3 125M reproduction study on Tiny Shakespeare, on an RTX 3090, and two for the last: 5.56 times."
        )
        parts.append(section("The study's ladder", note, table(("rung", "#tokens/s"), study)))
    settings = [(row["title"], " ".join(row["overrides"]), shown(row["kernels"])) for row in done]
    parts.append(section("Settings", "", table(("rung", "settings", "kernels"), settings)))
    return document(escape(title), header(title, lead, facts), parts)


def cells(row: Row) -> tuple[str, ...]:
    """A measured rung's line under HEADS."""
    return (
        row["title"],
        f"{row['tokens_per_second']:,.0f}",
        f"{row['step_ms']:,.1f}",
        f"{row['quartile_1_ms']:,.1f}–{row['quartile_3_ms']:,.1f}",
        f"{row['peak_memory_mib']:,}",
        "–" if row["mfu"] is None else f"{100 * row['mfu']:.1f} %",
        gain(row["over_the_rung_before"]),
        f"{row['over_the_first']:.2f} ×",
        number(row["loss"], ".4f"),
        number(row["largest_loss_difference"], ".1e"),
    )


def gain(ratio: float | None) -> str:
    """1.43 as +43.0 %."""
    return "–" if ratio is None else f"{100 * (ratio - 1):+.1f} %"


def shown(kernels: Mapping[str, str]) -> str:
    """Operation and where it comes from."""
    return "; ".join(f"{name} {source}" for name, source in kernels.items())


def speeds(folder: Path, rows: Sequence[Row]) -> str:
    """Tokens/s as bars from the first rung up, with what each gains over the one before."""
    with drawing("ladder", 0.9 + 0.55 * len(rows), folder=folder) as drawn:
        ax = drawn.axes[0, 0]
        places = list(range(len(rows)))[::-1]
        most = max(row["tokens_per_second"] for row in rows)
        for place, row in zip(places, rows, strict=True):
            speed, tokens = row["tokens_per_second"], row["tokens_per_second"] * row["step_ms"]
            ax.barh(place, speed, 0.62, color=COLORS[0], alpha=0.85)
            low, high = (tokens / row[key] for key in ("quartile_3_ms", "quartile_1_ms"))
            ax.plot([low, high], [place, place], color=INK, linewidth=1.4)
            ratio = row["over_the_rung_before"]
            said = f"{speed:,.0f}" + (f"  ({gain(ratio)};  {row['over_the_first']:.2f} ×)" if ratio else "")
            ax.annotate(
                said, (max(speed, high), place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9.5
            )
        ax.set_yticks(places, [plain(row["title"]) for row in rows])
        ax.set_xlim(0, 1.32 * most)
        ax.xaxis.set_major_formatter(lambda value, _: short(value))
        ax.set_xlabel("tokens/s (line: quartiles)")
        ax.grid(visible=False, axis="y")
    return drawn.markup


def losses(folder: Path, rows: Sequence[Row]) -> str:
    """All rungs' losses over steps, and below how far each is from the first rung's."""
    import numpy as np

    with drawing("losses", 4.6, 2, 1, sharex=True, height_ratios=(2, 1), folder=folder) as drawn:
        above, below = drawn.axes[:, 0]
        base = np.asarray(rows[0]["losses"], dtype=np.float64)
        for number_, row in enumerate(rows):
            y = np.asarray(row["losses"], dtype=np.float64)
            x, color = np.arange(1, len(y) + 1), COLORS[number_ % len(COLORS)]
            above.plot(x, y, color=color, linewidth=2.6 - 0.4 * min(number_, 5), label=plain(row["title"]))
            if number_:
                below.plot(x, np.abs(y - base[: len(y)]), color=color, linewidth=1.4)
        above.set_ylabel("loss, nats")
        below.set_ylabel("difference")
        if len(rows) > 1:
            below.set_yscale("log")
        below.set_xlabel("step")
        above.legend(fontsize=9)
    return drawn.markup


def terminal_table(rows: Sequence[Row]) -> Any:
    """A rich table under HEADS; rungs that are left out say why."""
    from rich.table import Table

    shape = Table(box=None, header_style="bold")
    for head in HEADS:
        shape.add_column(head.lstrip("#"), justify="right" if head.startswith("#") else "left")
    for row in rows:
        if "left_out" not in row:
            shape.add_row(*cells(row))
    return shape
