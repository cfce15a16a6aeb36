"""Whole preparations on two nodes: the same bytes as on one machine by one process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster as RayCluster

from data_prep.execution.cluster import Cluster
from data_prep.execution.units import Result, Units
from data_prep.recipe import Cluster as Settings
from megatron_nlg.cli import main
from megatron_nlg.config.errors import InputError, MegatronNlgError
from tests.data_prep.material import sentence, tree_bytes
from tests.launch.minislurm import MiniSlurm

ROOT = Path(__file__).resolve().parents[3]
SLURM = "cluster={engine: slurm, partition: main, tasks: 2, memory_gb_per_cpu: 1, sbatch: {exclusive: ''}}"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    rows = [{"text": sentence(i % 40, 100), "n": i} for i in range(50)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for i in range(4):
        (folder / f"{i}.txt").write_text(sentence(60 + i, 150))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""
        out: {tmp_path}/one
        root: {folder}
        sources: [{{name: lines, paths: [a.jsonl]}}, {{name: texts, paths: ["*.txt"]}}]
        clean: {{min_characters: 20}}
        dedup: {{num_perm: 64, bands: 16, rows: 4}}
        tokenizer: {{kind: bpe, vocab_size: 400}}
        shard_bytes: 8000
        processes: 1
        """
    )
    assert main(["prep", "run", str(path)]) == 0
    return path


def corpus(folder: Path) -> dict[str, bytes]:
    """A preparation's files but for the logs."""
    return {name: content for name, content in tree_bytes(folder).items() if not name.startswith("logs/")}


def prep(*words: object, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "megatron_nlg.cli", "prep", "run", *map(str, words)]
    environment = {**environment, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.slurm
@pytest.mark.slow
def test_slurm_arrays_on_nodes_make_the_same_bytes(recipe: Path, tmp_path: Path, slurm: MiniSlurm) -> None:
    done = prep(recipe, SLURM, "--out", tmp_path / "two", environment=slurm.env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert corpus(tmp_path / "two") == corpus(tmp_path / "one")
    jobs = slurm.run("scontrol", "-o", "show", "job").splitlines()
    nodes = set(re.findall(r" NodeList=(node\d)", "\n".join(line for line in jobs if "JobName=read-read" in line)))
    assert len(nodes) >= 2
    assert not (tmp_path / "two" / "logs" / "array.json").exists()


@pytest.mark.slow
def test_two_ray_nodes_make_the_same_bytes(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the nodes' workers
    cluster = RayCluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        setting = f"cluster={{engine: ray, address: '{cluster.address}', tasks: 3, memory_gb_per_cpu: 1}}"
        done = prep(recipe, setting, "--out", tmp_path / "two", environment=dict(os.environ))
        executor = Cluster(Settings(engine="ray", address=cluster.address, memory_gb_per_cpu=1), tmp_path / "logs")
        with pytest.raises(InputError, match="document 7: is wrong; mend it"):
            executor.run(Units("b", write_or_vanish, tmp_path, {"wrong": 0}), lambda _: None)
    finally:
        cluster.shutdown()
    with pytest.raises(InputError, match=r"cluster.address: .*; start one with `ray start --head`"):
        executor.run(Units("b", write_or_vanish, tmp_path, {"lives": 0}), lambda _: None)
    assert done.returncode == 0, done.stderr[-3000:]
    assert corpus(tmp_path / "two") == corpus(tmp_path / "one")


def write_or_vanish(folder: Path, name: str, argument: Any) -> Result:
    """The first attempt at "dies" ends without a word, as when a node is lost."""
    if name == "dies" and not (folder / "dies.once").exists():
        (folder / "dies.once").touch()
        os._exit(9)
    if name == "never":
        os._exit(9)
    if name == "wrong":
        raise InputError("document 7: is wrong; mend it")
    return {"pid": os.getpid()}


@pytest.mark.slurm
@pytest.mark.slow
def test_lost_tasks_are_started_again_and_errors_are_not(
    tmp_path: Path, slurm: MiniSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    settings = Settings(engine="slurm", partition="main", tasks=2, memory_gb_per_cpu=1, retries=1)
    executor, steps = Cluster(settings, tmp_path / "logs"), []
    units = Units("a title", write_or_vanish, tmp_path, dict.fromkeys(["dies", "lives"]))
    executor.run(units, steps.append)
    assert sum(steps) == 2
    assert set(units.results()) == {"dies", "lives"}
    with pytest.raises(InputError, match="document 7: is wrong; mend it"):
        executor.run(Units("b", write_or_vanish, tmp_path, {"wrong": 0}), steps.append)
    with pytest.raises(MegatronNlgError, match=r"b: 1 of 1 units, the first never, .* after 2 attempts"):
        executor.run(Units("b", write_or_vanish, tmp_path, {"never": 0}), steps.append)
    assert slurm.run("squeue", "--noheader") == ""


def test_what_a_cluster_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = Units("b", write_or_vanish, tmp_path, {"lives": 0})
    slurm = Cluster(Settings(engine="slurm", partition="main"), tmp_path / "logs")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no sbatch here"):
        slurm.run(units, lambda _: None)
    monkeypatch.setitem(sys.modules, "datatrove.executor.slurm", None)
    monkeypatch.delitem(sys.modules, "data_prep.execution.slurm", raising=False)
    with pytest.raises(InputError, match=r"pip install 'megatron_nlg\[cluster\]'"):
        slurm.run(units, lambda _: None)
