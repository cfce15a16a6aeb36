"""Parts of a study's page: its head, figures in the project's look, numbers, plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from data_prep.files import replacing, write_text
from data_prep.report.figure import STYLE, element, svg_file

DOTS = 160
"""Of a PNG, to the inch."""


class Drawing:
    """A figure of ten inches with its axes; `markup` is its SVG once it has been drawn."""

    def __init__(self, name: str, figure: Any, axes: Any):
        self.name, self.figure, self.axes, self.markup = name, figure, axes, ""


@contextmanager
def drawing(
    name: str, height: float, rows: int = 1, columns: int = 1, folder: Path | None = None, **options: Any
) -> Iterator[Drawing]:
    """Axes [rows, columns] in the project's look; `folder` gets them as NAME.png and NAME.svg."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(10, height), layout="constrained")
        drawn = Drawing(name, figure, figure.subplots(rows, columns, squeeze=False, **options))
        yield drawn
        for ax in drawn.axes.flat:
            ax.tick_params(length=0)
            ax.set_axisbelow(True)
        text = svg_file(figure)
        drawn.markup = element(text, name)
        if folder:
            write_text(folder / f"{name}.svg", text)
            figure.set_layout_engine("none")  # it is laid out
            with replacing(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png", facecolor="white", dpi=DOTS)


def plain(text: str) -> str:
    """A name, not a formula."""
    return text.replace("$", r"\$")


def number(value: float | None, form: str = ".2f") -> str:
    """A number, or a dash."""
    return "–" if value is None else format(value, form)


def header(title: str, lead: str, facts: Sequence[tuple[str, str]]) -> str:
    """The head of a page: what was studied, and the figures that one looks for first."""
    cards = "".join(f'<div class="fact"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in facts)
    return f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n<div class="facts">{cards}</div>'


def statement(lines: Sequence[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
