"""The live view's content, on a terminal of a given size."""

from __future__ import annotations

import io
import math

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from megatron_nlg.training.callbacks.live import BLOCKS, LiveView, sparkline
from tests.megatron_nlg.training.callbacks.example import metrics, validation


def test_it_shows_loss_rate_validation_and_what_is_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    view = LiveView(console, 4, 20)
    view.at(8)
    for step in range(5, 9):
        view.step(metrics(step, data_seconds=0.05))
    view.validation(validation(4))
    view.validation(validation(8))
    view.stop()
    page = Console(file=io.StringIO(), width=100, record=True)
    page.print(view)
    text = page.export_text()
    assert "4.2000  █▆▃▁" in text
    assert "1,024 tokens/s, waits for data 10%" in text
    assert "docs 3.2000  -0.4000" in text
    assert "8/20" in text


def test_nothing_is_known_before_the_first_step() -> None:
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), 0, 20)
    view.stop()
    page = Console(file=io.StringIO(), width=100, record=True)
    page.print(view)
    assert "0/20" in page.export_text()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_a_sparkline_has_a_mark_for_every_value(values: list[float]) -> None:
    marks = sparkline(values)
    assert len(marks) == len(values)
    for mark, value in zip(marks, values, strict=True):
        assert (mark == "?") == (not math.isfinite(value))
        assert mark in BLOCKS + "?"
