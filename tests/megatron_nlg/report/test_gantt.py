"""The picture of a pipeline from a trace: a perfect 1F1B, and traces that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.report.gantt import gantt_svg, note, read_pipeline, write_png

ORDERS = (["F0", "F1", "B0", "F2", "B1", "F3", "B2", "B3"], ["F0", "B0", "F1", "B1", "F2", "B2", "F3", "B3"])
STARTS = ([0, 1, 3, 4, 5, 6, 7, 9], [1, 2, 3, 4, 5, 6, 7, 8])
"""In units of one pass, all passes equally long: stage 0 waits for each gradient."""


def write_trace(folder: Path, **changes: Any) -> Path:
    events = [
        {
            "ph": "X",
            "pid": 0,
            "tid": rank,
            "ts": 5000 + 1000 * start,
            "dur": 1000,
            "name": name,
            "cat": {"F": "forward", "B": "backward"}[name[0]],
            "args": {"step": 7, "micro_batch": int(name[1]), "chunk": 0},
        }
        for rank in (0, 1)
        for name, start in zip(ORDERS[rank], STARTS[rank], strict=True)
    ]
    places = [{"pipe": rank, "data": 0, "tensor": 0, "context": 0} for rank in (0, 1)]
    about = {"layout": {"pipeline": 2, "data": 1, "tensor": 1, "interleave": 1}, "ranks": places, "steps": [6, 7]}
    path = folder / "logs" / "timeline_steps_6-7.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"traceEvents": events, "otherData": about, **changes}))
    return path


def test_a_perfect_pipeline(tmp_path: Path) -> None:
    path = write_trace(tmp_path)
    pipeline = read_pipeline(tmp_path)
    assert pipeline
    assert pipeline.step == 7
    assert min(bar.begin for bar in pipeline.bars) == 0
    assert pipeline.rows == [0, 1]
    assert pipeline.idle == pytest.approx(1 - 16 / 20)  # 16 passes in 10 units of two ranks
    assert pipeline.bubble == pytest.approx(1 / 5)
    text = note(pipeline)
    assert "20% of the time; 1F1B alone would leave 20%" in text
    picture = gantt_svg(pipeline)
    assert "stage 1 · rank 1" in picture
    assert "milliseconds of step 7" in picture
    assert write_png(pipeline) == path.with_suffix(".png")
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in path.parent.iterdir()) == [path.with_suffix(s).name for s in (".json", ".png")]


def test_a_run_without_one(tmp_path: Path) -> None:
    assert read_pipeline(tmp_path) is None


@pytest.mark.parametrize("changes", [{"otherData": {}}, {"traceEvents": [{"ph": "X"}]}, {"traceEvents": []}])
def test_what_is_not_a_timeline(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_trace(tmp_path, **changes)
    with pytest.raises(InputError, match=r"timeline_steps_6-7\.json: not a timeline .*; remove it"):
        read_pipeline(tmp_path)
