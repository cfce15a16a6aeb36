"""Curves: what is drawn, and that it is one sound SVG element."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.report.charts import MANY, Panel, Series, binned, chart, running_mean, short


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in parse(svg).iter() if e.tag.endswith("text")]


def test_axes_series_and_resumes_are_named() -> None:
    series = [
        Series("training", range(1, 101), [5 - i / 50 for i in range(100)], "#2563eb", "smooth"),
        Series("validation: docs", [50, 100], [4.2, 3.1], "#ea580c", "points"),
    ]
    shown = texts(chart("loss", [Panel("loss", series)], [40], 3))
    assert {"training", "validation: docs", "loss", "step", "resumed after 40"} <= set(shown)


def test_ids_of_two_charts_do_not_meet() -> None:
    panels = [Panel("a", [Series("a", [1, 2], [1, 2], "red")])]
    one, two = (chart(name, panels, [], 2) for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert all(ids)
    assert not ids[0] & ids[1]
    for svg, known in zip((one, two), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", svg) + re.findall(r'href="#([^"]+)"', svg)) <= known


def test_the_same_chart_is_the_same_text() -> None:
    panels = [Panel("a", [Series("a", [1, 2, 3], [1, None, 2], "red", "steps")])]
    assert chart("x", panels, [2], 2) == chart("x", panels, [2], 2)


def test_long_curves_stay_small() -> None:
    steps = range(200_000)
    noise = np.random.default_rng(0).normal(size=len(steps)).tolist()
    assert len(chart("long", [Panel("a", [Series("a", steps, noise, "red", "smooth")])], [], 3)) < 400_000


@pytest.mark.parametrize("y", [[None], [None, None], [3.0], [1.0, None, 2.0], [0.0, 0.0]])
@pytest.mark.parametrize("kind", ["line", "smooth", "steps", "points"])
@pytest.mark.parametrize("log", [False, True])
def test_few_or_no_numbers(y: list[float | None], kind: str, log: bool) -> None:
    series = Series("a", range(1, len(y) + 1), y, "red", kind)  # type: ignore[arg-type]
    parse(chart("few", [Panel("a", [series], log=log, from_zero=not log)], [], 2))


@settings(max_examples=25, deadline=None)
@given(name=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=12))
def test_any_source_name_is_text_and_not_markup_or_formula(name: str) -> None:
    svg = chart("a", [Panel("p", [Series(f"v: {name}", [1], [1], "red"), Series("b", [1], [2], "red")])], [], 2)
    assert f"v: {name}" in texts(svg)


def test_bins_cover_every_point() -> None:
    x = np.arange(10_007, dtype=np.float64)
    means, values, low, high = binned(x, np.sin(x), MANY)
    assert len(means) == len(values) == MANY
    assert low.min() == np.sin(x).min()
    assert high.max() == np.sin(x).max()
    assert (low <= values).all()
    assert (values <= high).all()
    assert (np.diff(means) > 0).all()


def test_running_mean_skips_what_is_no_number() -> None:
    values = running_mean(np.array([1.0, 3.0, np.nan, 5.0, np.nan, np.nan]), 2)
    assert values[:5].tolist() == [1.0, 2.0, 3.0, 5.0, 5.0]
    assert np.isnan(values[5])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0003, "3e-4"), (2.5e-4, "2.5e-4"), (5.5, "5.5"), (5000, "5k"), (12_000, "12k"), (2e6, "2M")],
)
def test_axis_labels(value: float, text: str) -> None:
    assert short(value) == text
