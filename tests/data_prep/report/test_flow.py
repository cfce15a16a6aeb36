"""The data flow."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from data_prep.report.flow import flow_diagram, stages_of
from tests.megatron_nlg.report.example import write_corpus_stats


def texts(svg: str, style: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter("text") if e.get("class") == style]


def test_flow_names_stages_reasons_and_tokens(tmp_path: Path) -> None:
    write_corpus_stats(tmp_path)
    stats = json.loads((tmp_path / "stats.json").read_text())
    svg = flow_diagram(stages_of(stats), stats["tokens"])
    assert texts(svg, "left head") == ["read", "clean", "dedup", "tokens", "code", "docs"]
    assert texts(svg, "left drop") == [
        *("− empty: 14, 0 B", "− invalid utf8: 3, 41 kB"),
        *("− too short: 3,141, 429 kB", "− javascript: 2, 500 B"),
        *("− exact duplicate: 610, 700 kB", "− near duplicate: 381, 750 kB"),
    ]
    assert "1.12 M tokens, 4,956 documents" in texts(svg, "left sub")


def test_bars_are_as_high_as_their_text_is_large(tmp_path: Path) -> None:
    write_corpus_stats(tmp_path)
    stages = stages_of(json.loads((tmp_path / "stats.json").read_text()))
    svg = ElementTree.fromstring(flow_diagram(stages, {}))
    kept = [float(group[1].get("height", 0)) for group in svg.iter("g")]
    sizes = [size for stage in stages for size in stage.kept.values()]
    assert [height / kept[0] for height in kept] == pytest.approx([s / sizes[0] for s in sizes], abs=2e-3)


def test_stages_of_other_names_come_last() -> None:
    one = {"documents_in": 1, "bytes_in": 1, "documents_out": 1, "bytes_out": 1, "dropped": {}}
    names = ("a_stage", "clean", "dedup", "read")
    stages = stages_of({"stages": {name: {"sources": {"a": one}} for name in names}})
    assert [stage.name for stage in stages] == ["read", "clean", "dedup", "a_stage"]


def test_a_corpus_that_lost_everything_is_drawn() -> None:
    nothing = {"documents_in": 0, "bytes_in": 0, "documents_out": 0, "bytes_out": 0, "dropped": {}}
    svg = flow_diagram(stages_of({"stages": {"read": {"sources": {"<a>": nothing}}}}), {})
    assert "&lt;a&gt;" in svg
    assert "nan" not in svg


def test_many_stages_and_many_reasons_stay_apart() -> None:
    reasons = {f"reason_{i}_with_a_long_name": {"documents": 9 - i, "bytes": 1} for i in range(8)}
    one = {"documents_in": 99, "bytes_in": 9, "documents_out": 9, "bytes_out": 9, "dropped": reasons}
    svg = flow_diagram(stages_of({"stages": {f"stage{i}": {"sources": {"a": one}} for i in range(9)}}), {})
    assert texts(svg, "left drop")[:6] == [*(f"− reason {i} with a lo: {9 - i}" for i in range(5)), "− 3 more reasons"]
    assert texts(svg, "left sub")[0] == "99 documents"
    starts = [float(e.get("x", 0)) for e in ElementTree.fromstring(svg).iter("text") if e.get("class") == "left head"]
    assert starts[1] - starts[0] == 138
