"""The rank grid."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_nlg.parallel.layout import Layout
from megatron_nlg.report.diagrams import layer_range, layout_diagram, shown


def texts(svg: str, style: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter("text") if e.get("class") == style]


def test_every_rank_stands_where_the_layout_has_it() -> None:
    svg = layout_diagram(Layout(pipeline=2, data=2, tensor=2), 4)
    assert sorted(map(int, texts(svg, "rank"))) == list(range(8))
    assert "rank 6: stage 1, replica 1, tensor 0" in svg
    assert texts(svg, "head") == ["stage 0", "stage 1"]
    assert texts(svg, "sub") == ["layers 0–1", "+ embedding", "layers 2–3", "+ output"]
    assert texts(svg, "row") == ["replica 0", "replica 1"]


def test_equal_colours_are_data_parallel_groups() -> None:
    layout = Layout(pipeline=2, data=3, tensor=2)
    groups: dict[tuple[str, str], list[int]] = {}
    for box in ElementTree.fromstring(layout_diagram(layout, 2)).iter("rect"):
        if box.get("class") is None:
            rank = int(re.findall(r"rank (\d+)", "".join(box.itertext()))[0])
            groups.setdefault((str(box.get("fill")), str(box.get("fill-opacity"))), []).append(rank)
    assert sorted(groups.values()) == sorted(layout.data_groups())


def test_interleaved_stages_name_their_chunks() -> None:
    svg = layout_diagram(Layout(pipeline=2, interleave=2), 8)
    assert "layers 0–1, 4–5" in svg
    assert "layers 2–3, 6–7" in svg


def test_a_large_grid_shows_its_ends() -> None:
    svg = layout_diagram(Layout(pipeline=35, data=8, tensor=8), 105)
    assert {"stage 0", "stage 3", "stage 34"} <= set(texts(svg, "head"))
    assert {"0", "2239"} <= set(texts(svg, "rank"))
    assert len(svg) < 40_000


@settings(max_examples=30, deadline=None)
@given(pipeline=st.integers(1, 12), data=st.integers(1, 9), tensor=st.integers(1, 16))
def test_any_layout_is_drawn_once_per_shown_rank(pipeline: int, data: int, tensor: int) -> None:
    layout = Layout(pipeline=pipeline, data=data, tensor=tensor)
    ranks = list(map(int, texts(layout_diagram(layout, pipeline), "rank")))
    assert len(set(ranks)) == len(ranks)
    assert {0, layout.world_size - 1} <= set(ranks)
    assert len(ranks) == tensor * min(pipeline, 5 if pipeline > 6 else 6) * min(data, 3 if data > 4 else 4)


@pytest.mark.parametrize(("count", "result"), [(3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, None, 8])])
def test_shown(count: int, result: list[int | None]) -> None:
    assert shown(count, 4) == result


def test_layer_range() -> None:
    assert [layer_range(range(4, 8)), layer_range(range(3, 4))] == ["4–7", "3"]
