"""Bytes that training sends over the uplinks of leaf switches, counted by their interfaces, are those of the plan."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from launch.placement.plan import Plan
from launch.placement.predict import predicted_link_bytes
from launch.topology.build import build_fabric
from launch.topology.read import read_topology
from megatron_nlg import cli
from megatron_nlg.config.cluster import load_cluster
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.layout import Layout
from tests.launch.minislurm import missing
from tests.launch.netslurm import NetSlurm, unable
from tests.launch.ranks import rank_server, write_python
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.root]
STEPS = 12
CLUSTER = """
name: net
nodes: 8
gpus_per_node: 0
levels:
  - {name: gpu, bandwidth_gbs: 10}
  - {name: node, bandwidth_gbs: 0.1}
  - {name: leaf, bandwidth_gbs: 0.1}
"""


@pytest.fixture(scope="module")
def network() -> Iterator[NetSlurm]:
    if reason := unable() or ", ".join(missing()):
        pytest.skip(reason)
    slurm = NetSlurm(nodes=8)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Messages of some size, so that what else goes over the network is small beside them."""
    write_corpus(tmp_path / "corpus")
    config = tiny(
        "data.blend=corpus/blend.yaml",
        "data.split=[1.0, 0.0]",
        f"schedule.train_tokens={32 * 64 * STEPS}",
        "batch.global=32",
        "evaluation.interval=0",
        "evaluation.batches=0",
        "checkpoint.interval=0",
        "model.hidden_size=256",
        "model.sequence_length=64",
        "parallel.pipeline=2",
    )
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return config


def bytes_a_step(network: NetSlurm, run: Path, number: int) -> tuple[Plan, list[float]]:
    """The placement of a job, and what goes over the uplinks of both leaves in a step of it, each up and down."""
    rows = run / "metrics.jsonl"
    counted, end = [(0, *[0] * 4)], time.monotonic() + 150
    while counted[-1][0] < STEPS - 1:
        time.sleep(0.003)
        steps = rows.read_text().count("\n") if rows.exists() else 0
        if steps > counted[-1][0]:
            counted.append((steps, *network.uplink_bytes(1), *network.uplink_bytes(2)))
        assert time.monotonic() < end, (run / "logs" / f"slurm-{number}.out").read_text()
    assert network.wait(number)["JobState"] == "COMPLETED"
    # The median: what the next step sends before it is looked at is counted twice, once too much and once too little.
    a_step = [
        [(late - early) / (after[0] - before[0]) for early, late in zip(before[1:], after[1:], strict=True)]
        for before, after in pairwise(counted[2:])
    ]
    sent = [median(uplink) for uplink in zip(*a_step, strict=True)]
    placement = run / "jobs" / str(number) / "placement.json"
    slurms_own = Plan(Layout(pipeline=2, data=4), tuple(f"node{rank + 1}" for rank in range(8)))
    return Plan.read(placement) if placement.exists() else slurms_own, sent


def test_counters_of_uplinks_agree_with_the_plan(
    network: NetSlurm,
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_CONF", network.env["SLURM_CONF"])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    topology = read_topology(str(network.root / "topology.conf"))
    fabric = build_fabric(load_cluster(Path("cluster.yaml")), topology)
    found = {}
    with rank_server(tmp_path / "server") as server:
        write_python(tmp_path / "python", server)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        for run, options in (("default", []), ("placed", ["--cluster", "cluster.yaml", "--topology", "scontrol"])):
            nodes = ["--nodes", "8", "--ranks-per-node", "1"]
            assert cli.main(["launch", "run.yaml", "--out", run, *nodes, *options, "--submit"]) == 0
            number = int(capsys.readouterr().out.split()[1])
            plan, sent = bytes_a_step(network, tmp_path / run, number)
            predicted = predicted_link_bytes(plan, fabric, config, micro_batches=4)
            assert sent == pytest.approx([*predicted["leaf", "leaf1"], *predicted["leaf", "leaf2"]], rel=0.02), run
            found[run] = max(sent)
            assert cli.main(["launch", "status", run, "--json"]) == 0
            said = json.loads(capsys.readouterr().out)["traffic"]
            of_nodes = sum(predicted["node", f"node{node + 1}"][0] for node in range(8))
            assert (said["nodes"], said["sent_bytes"]) == (8, pytest.approx(of_nodes, rel=0.02))
            if run == "placed":
                assert said["planned_bytes"] == pytest.approx(of_nodes)
                assert 0 < said["planned_seconds"] < said["step_seconds"]
    assert found["placed"] < found["default"] / 3  # only stages' messages cross, and no ring of gradients
