from xml.etree import ElementTree

import pytest

from data_prep.report.bars import histogram, legend, ranked, shares


def drawn(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup.partition("<p class")[0])


def test_bars_are_as_high_as_their_counts() -> None:
    picture = drawn(histogram(["1", "2", "4"], {"a": [10, 0, 5], "<b>": [10, 20, 0]}, "bytes"))
    heights = {"".join(bar.itertext()): float(bar.get("height", 0)) for bar in picture.iter("rect")}
    assert heights == {"a, 1: 10": 85, "<b>, 1: 10": 85, "<b>, 2: 20": 170, "a, 4: 5": 42.5}


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [0, 0]}])
def test_nothing_to_draw(series: dict[str, list[int]]) -> None:
    labels = ["x"] * len(series.get("a", []))
    assert not list(drawn(histogram(labels, series, "bytes")).iter("rect"))


def test_shares_fill_the_width() -> None:
    picture = drawn(shares({"has": {"a": 3, "b": 1}, "is read": {"a": 0.5, "b": 0.5}}))
    widths = [float(bar.get("width", 0)) for bar in picture.iter("rect")]
    assert widths == [660, 220, 440, 440]
    assert [text.text for text in picture.iter("text")][:3] == ["has", "75.0%", "25.0%"]


def test_ranked_and_legend() -> None:
    picture = drawn(ranked([("too <short>", 10, "10 documents"), ("other", 5, "5")]))
    assert [float(bar.get("width", 0)) for bar in picture.iter("rect")] == [430, 215]
    assert legend({"a": 1}) == ""
    assert "&lt;b&gt;" in legend({"a": 1, "<b>": 2})
