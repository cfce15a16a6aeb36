"""Predicted against measured in the report of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from megatron_nlg.cli import main
from megatron_nlg.config.cluster import load_cluster
from megatron_nlg.planning.prediction import predict
from megatron_nlg.report.record import read_record
from tests.megatron_nlg.report.example import write_run

CLUSTER = """
name: toy
nodes: 1
gpus_per_node: {gpus}
peak_tflops: 0.1
memory_gib: 16
compute: {{memory_gbs: 20}}
levels: [{{name: gpu, bandwidth_gbs: 4}}, {{name: node, bandwidth_gbs: 1}}]
"""


@pytest.mark.parametrize("gpus", [0, 8])
def test_the_run_is_held_against_its_plan(tmp_path: Path, gpus: int) -> None:
    run = write_run(tmp_path / "run", "parallel.tensor=2", "parallel.pipeline=2")
    peaks = {"event": "peak memory", "step": 60, "time": 0.0, "mib": [700] * 4 + [650] * 4, "before_mib": [600] * 8}
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps(peaks) + "\n")
    (tmp_path / "toy.yaml").write_text(CLUSTER.format(gpus=gpus))
    assert main(["report", str(run), "--cluster", str(tmp_path / "toy.yaml")]) == 0
    text = (run / "report.html").read_text()
    part = text[text.index("Predicted and measured") :]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", part[: part.index("</section>")])
    rows = {cells[i]: cells[i + 1 : i + 4] for i in range(0, len(cells), 4)}
    found = predict(read_record(run).config, load_cluster(tmp_path / "toy.yaml"), 8, 8)
    predicted, measured, ratio = map(float, rows["seconds of a step"])
    assert predicted == pytest.approx(found.step_seconds, rel=1e-3)
    assert ratio == pytest.approx(predicted / measured, abs=2e-3)
    assert [rows[f"MiB, stage {pipe}"][1] for pipe in (0, 1)] == ["100", "50"]
    stage = found.stages[0]
    wanted = stage.total - (stage.fragmentation + stage.runtime if gpus else 0)
    assert float(rows["MiB, stage 0"][0]) == pytest.approx(wanted / 2**20, rel=1e-3)


def test_a_cluster_is_for_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write_run(tmp_path / name)) for name in ("a", "b")]
    assert main(["report", *runs, "--cluster", "configs/clusters/selene.yaml"]) == 2
    assert "--cluster: is for one run" in capsys.readouterr().err
