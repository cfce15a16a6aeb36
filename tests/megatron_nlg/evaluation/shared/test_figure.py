"""Numbers with their intervals, as a page shows them, and drawings."""

from __future__ import annotations

import math

from megatron_nlg.evaluation.shared.figure import drawing, number, percent, plain, points, shown, statement
from megatron_nlg.evaluation.shared.statistics import NOTHING, Estimate


def test_numbers() -> None:
    half = Estimate(0.5, 0.25, 0.75, 9).as_dict()
    assert shown(half) == "0.500 (0.250 to 0.750)" and percent(half) == "50.0 (25.0–75.0)"
    assert shown(Estimate(0.5, math.nan, math.nan, 1).as_dict(), ".1f") == "0.5"
    assert shown(NOTHING.as_dict()) == number(None) == "–" and number(1.234) == "1.23"
    assert statement(["a < b"]) == "<ul><li>a &lt; b</li></ul>" and plain("$5$") == r"\$5\$"


def test_points_without_a_number_or_an_interval() -> None:
    entries = [
        Estimate(0.5, 0.25, 0.75, 9).as_dict(),
        Estimate(0.5, math.nan, math.nan, 1).as_dict(),
        NOTHING.as_dict(),
    ]
    with drawing("three", 2.0) as drawn:
        points(drawn.axes[0, 0], ["all", "alone", "nothing"], entries, ["red", "green", "blue"])
    assert all(f">{label}<" in drawn.markup for label in ("all", "alone", "nothing"))
    assert drawn.markup.startswith('<svg class="chart"') and "#0000ff" not in drawn.markup
