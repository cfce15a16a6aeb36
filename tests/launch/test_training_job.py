"""Training jobs on a real SLURM: stopped, pre-empted, without a node, and equal to a local run, digit by digit."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from megatron_nlg import cli
from megatron_nlg.config.base import parse_yaml
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.parallel.heartbeats import read_heartbeats
from tests.job import command
from tests.launch.minislurm import MiniSlurm, wait_until
from tests.launch.ranks import rank_server, write_python
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny

STEPS = 20
CLUSTER = """
name: mini
nodes: 4
gpus_per_node: 2
levels:
  - {name: gpu, bandwidth_gbs: 100}
  - {name: node, bandwidth_gbs: 10}
  - {name: leaf, bandwidth_gbs: 2}
"""
PLACED = ("--nodes", "4", "--ranks-per-node", "1", "--cluster", "cluster.yaml", "--topology", "scontrol")
pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with run.yaml, cluster.yaml, a python that starts ranks fast, and the run `local`."""
    folder = tmp_path_factory.mktemp("jobs")
    write_corpus(folder / "corpus")
    config = tiny(
        "data.blend=corpus/blend.yaml",
        "data.split=[0.8, 0.2]",
        f"schedule.train_tokens={16 * 32 * STEPS}",
        "evaluation.interval=10",
        "evaluation.batches=1",
        "checkpoint.interval=10",
        "parallel.tensor=2",
        "seed=7",
    )
    (folder / "run.yaml").write_text(to_yaml(config))
    (folder / "cluster.yaml").write_text(CLUSTER)
    with rank_server(folder / "server") as server:
        write_python(folder / "python", server)
        with contextlib.chdir(folder), command("train", "run.yaml", "--nproc", "4", "--out", "local") as job:
            code, _, err = job.wait()
        assert code == 0, err
        yield folder


@pytest.fixture
def launch(
    slurm: MiniSlurm, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[int]]:
    """Type `megatron-nlg launch run.yaml …`; the numbers of the jobs, when they were submitted."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))

    def submit(*arguments: str) -> list[int]:
        assert cli.main(["launch", "run.yaml", *arguments]) == 0
        words = capsys.readouterr().out.split()
        return [int(word) for word in words[1 : words.index("from")]] if words[0] == "job" else []

    return submit


def metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def values(run: Path) -> list[tuple[Any, ...]]:
    """What of the metrics does not depend on the clock."""
    return [(row["step"], row.get("source"), row["loss"], row.get("grad_norm"), row.get("lr")) for row in metrics(run)]


def wait_for_steps(run: Path, steps: int) -> None:
    wait_until(lambda: len(metrics(run)) >= steps, 120, f"{steps} steps (output in {run}/logs)")


def log(run: Path, number: int) -> str:
    return (run / "logs" / f"slurm-{number}.out").read_text()


def leaf(slurm: MiniSlurm, node: str) -> int:
    return next(number for number, nodes in enumerate(slurm.leaves) if node in nodes)


def test_a_placed_chain_goes_on_after_the_time_limit_and_ends_when_the_run_is_done(
    slurm: MiniSlurm, folder: Path, launch: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "chain"
    numbers = launch("--out", "chain", *PLACED, "--jobs", "3", "--submit")
    wait_for_steps(run, 3)
    slurm.run("scancel", "--batch", "--signal=USR1", str(numbers[0]))  # what --signal=B:USR1@180 makes SLURM do
    ended = [slurm.wait(number) for number in numbers]
    assert [job["ExitCode"] for job in ended] == ["3:0", "0:0", "0:0"], log(run, numbers[0])
    assert [job["Restarts"] for job in ended] == ["0"] * 3
    assert log(run, numbers[2]).endswith(f" ends with code 0: job {numbers[1]} has finished the run\n")

    assert (run / "checkpoints" / f"step_{STEPS:08}" / "manifest.json").is_file()
    assert parse_yaml((run / "config.yaml").read_text(), "config.yaml")["seed"] == 7
    assert [row["step"] for row in metrics(run) if "split" not in row] == list(range(1, STEPS + 1))
    assert values(run) == values(folder / "local")
    for number in numbers[:2]:
        # Neighbours by name lie under different switches; ranks 0 and 1, and 2 and 3, share every matrix.
        hosts = (run / "jobs" / str(number) / "hostfile").read_text().split()
        assert [leaf(slurm, host) for host in hosts] in ([0, 0, 1, 1], [1, 1, 0, 0])
        assert [read_heartbeats(run)[rank].host for rank in range(4)] == hosts

    foretold = json.loads((run / "jobs" / str(numbers[0]) / "traffic.json").read_text())
    leaves = foretold["levels"][2]["bytes"]
    assert foretold["cluster"] == "mini" and 0 < leaves["chosen"] < leaves["default"]
    assert cli.main(["launch", "status", str(numbers[1])]) == 0
    said = f"job {numbers[1]}: COMPLETED\n{run}: done: step {STEPS} of {STEPS}, 4 ranks (4 in ended)\n"
    shown = capsys.readouterr().out
    # The nodes of this SLURM talk over the loopback, which is not counted (test_traffic.py has a network).
    assert shown.startswith(said) and shown.splitlines()[2].startswith("  0.0 MB a step left the 4 nodes")


def test_ranks_that_are_not_where_they_are_planned_end_the_job_within_seconds(
    slurm: MiniSlurm, folder: Path, launch: Callable[..., list[int]]
) -> None:
    run = folder / "misplaced"
    launch("--out", "misplaced", *PLACED)
    script = run / "job.sbatch"
    text = script.read_text().replace("export SLURM_HOSTFILE", "SLURM_HOSTFILE")
    script.write_text(text.replace("--distribution=arbitrary", "--distribution=block"))
    number = slurm.submit(str(script))
    ended = slurm.wait(number)
    said = log(run, number)
    assert (ended["ExitCode"], ended["Restarts"]) == ("2:0", "0"), said
    hosts = (run / "jobs" / str(number) / "hostfile").read_text().split()
    wrong = [
        f"rank {rank}: host node{rank + 1} in place of {host}"
        for rank, host in enumerate(hosts)
        if host != f"node{rank + 1}"
    ]
    assert said.count(" ranks are not where they are planned") == 1
    assert f"{len(wrong)} of 4 ranks are not where they are planned: {'; '.join(wrong)}; start them" in said
    took = [datetime.fromisoformat(ended[name]) for name in ("StartTime", "EndTime")]
    assert took[1] - took[0] < timedelta(seconds=30)
    assert metrics(run) == []


def test_a_job_that_is_pre_empted_and_then_loses_a_node_equals_an_undisturbed_one(
    slurm: MiniSlurm, folder: Path, launch: Callable[..., list[int]]
) -> None:
    run = folder / "faults"
    (number,) = launch("--out", "faults", "--nodes", "2", "--ranks-per-node", "2", "--submit")
    wait_for_steps(run, 3)
    urgent = slurm.submit("--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    assert slurm.wait(urgent)["JobState"] == "COMPLETED"
    saved = len(metrics(run))
    wait_for_steps(run, saved + 3)
    lost = slurm.nodes_of(slurm.job(number))[-1]
    slurm.kill_node(lost)
    try:
        ended = slurm.wait(number)
    finally:
        slurm.start_node(lost)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "2"), log(run, number)
    assert values(run) == values(folder / "local")
