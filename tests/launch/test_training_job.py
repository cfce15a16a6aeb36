"""A training job on two real SLURM nodes: stopped half-way by SLURM, queued again, and equal to a local run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_nlg.config.base import parse_yaml
from megatron_nlg.config.dump import to_yaml
from tests.launch.minislurm import MiniSlurm, wait_until
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny

STEPS = 20


def megatron_nlg(folder: Path, env: dict[str, str], *arguments: str) -> str:
    """What the command prints when it is typed in `folder`."""
    command = [sys.executable, "-m", "megatron_nlg.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def values(run: Path) -> list[tuple[Any, ...]]:
    """What of the metrics does not depend on the clock."""
    return [(row["step"], row.get("source"), row["loss"], row.get("grad_norm"), row.get("lr")) for row in metrics(run)]


@pytest.mark.slow
@pytest.mark.slurm
def test_a_training_job_equals_a_local_run(slurm: MiniSlurm, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    config = tiny(
        "data.blend=corpus/blend.yaml",
        "data.split=[0.8, 0.2]",
        f"schedule.train_tokens={16 * 32 * STEPS}",
        "evaluation.interval=10",
        "evaluation.batches=1",
        "checkpoint.interval=10",
        "parallel.tensor=2",
    )
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    env = {**slurm.env, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    nodes = ["--nodes", "2", "--ranks-per-node", "2"]

    said = megatron_nlg(tmp_path, env, "launch", "run.yaml", *nodes, "--out", "job", "--submit", "seed=7")
    number, run = int(said.split()[1]), tmp_path / "job"
    wait_until(lambda: len(metrics(run)) >= 3, 120, f"three steps (output in {run}/logs)")
    slurm.run("scancel", "--batch", "--signal=USR1", str(number))
    wait_until(lambda: slurm.job(number)["Restarts"] == "1", 60, "the job to be queued again")
    stopped_after = metrics(run)[-1]["step"]
    ended = slurm.wait(number)
    log = (run / "logs" / f"slurm-{number}.out").read_text()
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), log
    assert 3 <= stopped_after < STEPS

    assert (run / "checkpoints" / "latest").exists()
    assert (run / "checkpoints" / f"step_{STEPS:08}" / "manifest.json").is_file()
    assert parse_yaml((run / "config.yaml").read_text(), "config.yaml")["seed"] == 7
    assert [row["step"] for row in metrics(run) if "split" not in row] == list(range(1, STEPS + 1))
    for rank in range(4):
        assert (run / "logs" / f"rank_{rank}.log").exists()

    megatron_nlg(tmp_path, env, "train", "run.yaml", "--nproc", "4", "--out", "local", "seed=7")
    assert values(run) == values(tmp_path / "local")
