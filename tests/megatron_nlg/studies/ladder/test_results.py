from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from megatron_nlg.studies.ladder.results import csv_text, rows_of
from megatron_nlg.studies.ladder.rungs import Machine, ladder
from megatron_nlg.studies.runs import Outcome, write_outcome

MACHINE = Machine(gpus=None, ranks=2, not_compiled="no GPU", libraries=False)


def write_run(folder: Path, seconds: list[float], losses: list[float | None], mib: list[int]) -> Path:
    folder.mkdir(parents=True)
    rows = [
        {"step": step, "tokens": 100 * step, "loss": loss, "step_seconds": time, "mfu": None}
        for step, (time, loss) in enumerate(zip(seconds, losses, strict=True), 1)
    ]
    events = [
        {"event": "start", "step": 0, "device": "abacus"},
        {"event": "kernels", "step": 0, "attention": "naive", "time": 0},
        {"event": "peak memory", "step": len(rows), "mib": mib, "before_mib": [10] * len(mib)},
    ]
    for name, lines in (("metrics", rows), ("events", events)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_outcome(folder, Outcome(0))
    return folder


def test_figures_ratios_and_reasons(tmp_path: Path) -> None:
    steps = ladder(
        ["fp32", "mixed", "flash", "fused", "data"], MACHINE, {"precision": "bf16", "tensor": 1, "pipeline": 1}
    )
    folders = {
        "fp32": [
            write_run(tmp_path / "a1", [9.0, 1.0, 1.0], [3.0, 2.0, 1.0], [30]),
            write_run(tmp_path / "a2", [9.0, 3.0, 1.0], [7.0, 7.0, 7.0], [40]),  # a second round: times only
        ],
        "mixed": [tmp_path / "nothing"],
        "flash": [write_run(tmp_path / "c", [9.0, 0.5, 0.5], [3.0, 2.25, None], [30])],
        "fused": [],
        "data": [write_run(tmp_path / "d", [9.0, 0.25, 0.25], [3.0, 2.0, 1.125], [30, 50])],
    }
    write_run(tmp_path / "e", [1.0], [1.0], [1])
    write_outcome(tmp_path / "e", Outcome(1, "out of memory"))
    rows = rows_of(steps, folders, warmup=1)
    fp32, mixed, flash, fused, data = rows
    assert (fp32["tokens_per_second"], fp32["step_ms"], fp32["steps"]) == (100.0, 1000.0, 4)
    assert (fp32["quartile_1_ms"], fp32["quartile_3_ms"]) == (1000.0, 2500.0)
    assert (fp32["peak_memory_mib"], fp32["over_the_first"], fp32["over_the_rung_before"]) == (30, 1.0, None)
    assert mixed["left_out"] == "has not been run" and "no GPU" in fused["left_out"]
    assert (flash["over_the_rung_before"], flash["largest_loss_difference"], flash["loss"]) == (2.0, 0.25, None)
    assert (data["over_the_rung_before"], data["over_the_first"], data["peak_memory_mib"]) == (2.0, 4.0, 40)
    assert data["largest_loss_difference"] == pytest.approx(0.125)
    assert rows_of(steps, {**folders, "flash": [tmp_path / "e"]}, 1)[2]["left_out"] == "out of memory"
    table = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [row["tokens_per_second"] for row in table] == ["100.0", "", "200.0", "", "400.0"]
