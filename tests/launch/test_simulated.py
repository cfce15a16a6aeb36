"""A simulated step from the command."""

import json
from pathlib import Path

import pytest

from megatron_nlg.cli import main

PLAN = ["plan", "configs/runs/gpt3_13b.yaml", "--cluster", "configs/clusters/selene.yaml", "--nodes", "8"]
LAYOUT = ["parallel.tensor=8", "parallel.pipeline=4"]


def test_trace_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from megatron_nlg.report.gantt import pipeline_of

    path, picture = tmp_path / "step.json", tmp_path / "step.svg"
    assert main([*PLAN, *LAYOUT, "--trace", str(path), "--gantt", str(picture)]) == 0
    found = json.loads(path.read_text())
    spans = [event for event in found["traceEvents"] if event["ph"] == "X"]
    assert {event["cat"] for event in spans} == {"forward", "backward", "all-reduce", "optimizer"}
    for stage in range(4):
        mine = [event for event in spans if event["tid"] == stage]
        ends = [event["ts"] + event["dur"] for event in mine]
        assert all(later["ts"] >= end - 0.01 for later, end in zip(mine[1:], ends, strict=False))
    seconds = float(capsys.readouterr().out.split(": ")[1].split(" s")[0])
    assert max(event["ts"] + event["dur"] for event in spans) / 1e6 == pytest.approx(seconds, rel=1e-3)
    drawn = pipeline_of(found, path)
    assert len(drawn.places) == 4 and drawn.idle > 0
    assert picture.read_text().startswith("<?xml")


def test_a_slow_stage_costs_what_it_is_slower(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, *LAYOUT, "--slow", "1=2"]) == 0
    cost = float(capsys.readouterr().out.split(" s a step, +")[1].split("%")[0])
    assert 60 < cost < 100


@pytest.mark.parametrize("words", [["--slow", "4=2"], ["--slow", "x"], ["--jitter", "7"], ["--gantt", "step.pdf"]])
def test_bad_input(words: list[str]) -> None:
    assert main([*PLAN, *LAYOUT, *words]) == 2
