"""A sweep as a user types it: killed in the middle, started again, extended, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest

from megatron_nlg.cli import main
from megatron_nlg.config.dump import to_yaml
from tests.job import command, until
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny

STEPS = 12


@pytest.fixture
def config(tmp_path: Path) -> Path:
    settings = tiny(
        f"data.blend={write_corpus(tmp_path / 'corpus')}",
        "data.split=[0.8, 0.2]",
        "model.num_layers=2",
        "model.hidden_size=32",
        "batch.global=2",
        f"schedule.train_tokens={2 * 32 * STEPS}",
        "schedule.decay=constant",
        "evaluation.batches=0",
        "checkpoint.interval=2",
        "optimizer.clip_grad_norm=0",
    )
    (tmp_path / "run.yaml").write_text(to_yaml(settings))
    return tmp_path / "run.yaml"


def test_a_killed_sweep_goes_on_and_a_diverged_run_is_a_result(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    grid = ["--grid", "model.init_std=0.02,0.03", "--grid", "optimizer.lr=1e-2,1e6"]
    first, last = "init_std=0.02,lr=0.01", "init_std=0.03,lr=1000000"
    with command("sweep", config, *grid, "--out", out) as job:
        until((out / first / "outcome.json").exists, "the first run's end")
        os.kill(job.process.pid, signal.SIGKILL)
        until(lambda: not job.alive(), "the end of what it had started")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in _files(out / first)}
    assert not (out / last / "outcome.json").exists()
    with command("sweep", config, *grid, "--out", out, "--parallel", "2") as job:
        code, said, errors = job.wait()
    assert code == 0, errors
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in _files(out / first)}
    results = json.loads((out / "results.json").read_text())
    words = {row["name"]: row["verdict"] for row in results["runs"]}
    assert (words[first], words[last]) == ("stable", "diverged")
    assert {len(losses) for name, losses in results["losses"].items() if words[name] == "stable"} == {STEPS}
    assert [one["largest"] for one in results["largest_stable_rates"]] == [0.01, 0.01]
    assert not list(out.glob("*/checkpoints"))
    assert len(list(csv.DictReader((out / "results.csv").open()))) == 4
    for name in ("curves", "verdicts", "rates"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f'aria-label="{name}"' in (out / "report.html").read_text()
    assert "diverged" in said


def test_a_run_that_fails_for_another_reason_is_shown_with_its_error(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    with command("sweep", config, "--grid", "model.num_attention_heads=4,5", "--out", out) as job:
        code, said, errors = job.wait()
    assert code == 1, errors
    assert "5 heads do not divide hidden_size 32" in said
    # The run that is there has other settings now.
    words = ["sweep", str(config), "--grid", "model.num_attention_heads=4", "--out", str(out), "seed=7"]
    assert main(words) == 2
    assert "holds a run of other settings: seed 1234 and not 7" in capsys.readouterr().err


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "checkpoints" not in path.parts]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--grid: at least one is needed"),
        (["--grid", "optimizer.lr=1", "--parallel", "0"], "--parallel 0: at least 1"),
        (["--grid", "optimizer.lr=1", "--rise", "0"], "--rise 0: must be above 0"),
        (["--grid", "optimizer.lr=1", "--spike-window", "3"], "--spike-window 3"),
        (["--grid", "optimizer.lr=1", "--submit"], "--submit: is for --slurm"),
        (["--grid", "optimizer.lr=1", "--task", "1"], "--task 1: the grid has runs 0 to 0"),
        (["--grid", "optimizer.lr=-1,-2"], "optimizer.lr"),
        (["--grid", "model.num_attention_heads=4,5", "--task", "1"], "5 heads do not divide"),
        (["--grid", "optimizer.lr=1", "--slurm", "data.blend=nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--grid", "optimizer.lr=1", "data.blend=nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_bad_input(words: list[str], said: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(config), "--out", str(config.parent / "out"), *words]) == 2
    assert said in capsys.readouterr().err


def test_the_array_script_has_a_job_a_run(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sweep"
    words = ["--grid", "optimizer.lr=1e-3,1e-2,1e-1", "--parallel", "2", "--time", "30:00", "seed=7"]
    assert main(["sweep", str(config), "--out", str(out), "--slurm", *words]) == 0
    script = (out / "sweep.sbatch").read_text()
    assert "#SBATCH --array=0-2%2\n" in script and "#SBATCH --time=30:00\n" in script
    assert "seed=7 --grid optimizer.lr=1e-3,1e-2,1e-1" in script and '--task "$SLURM_ARRAY_TASK_ID"' in script
    assert str(out / "sweep.sbatch") in capsys.readouterr().out
