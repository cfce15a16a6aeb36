"""`megatron-nlg plan` from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from launch.placement.plan import Plan
from launch.plan import by_name
from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from tests.tiny import tiny

SELENE = ["configs/runs/mt_nlg_530b.yaml", "--cluster", "configs/clusters/selene.yaml"]
CLUSTER = """
name: toy
nodes: 8
gpus_per_node: 2
memory_gib: 1
levels:
  - {name: gpu, bandwidth_gbs: 300}
  - {name: node, bandwidth_gbs: 10, latency_us: 5, rails: 2}
  - {name: leaf, bandwidth_gbs: 10, latency_us: 7, size: 4}
switches: {left: ["n[1,3,5,7,9]"], right: ["n[2,4,10]"], root: [left, right]}
"""
RUN = ["plan", "run.yaml", "parallel.tensor=2", "parallel.pipeline=2", "--cluster", "cluster.yaml"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with run.yaml and cluster.yaml, a cluster of two interleaved and uneven leaves."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(to_yaml(tiny()))
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    return tmp_path


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_mt_nlg_on_selene(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "plan", *SELENE, "--nodes", "280", "--placement")
    assert "tensor 8 × pipeline 35 × data 8 = 2,240 ranks on 280 nodes of 8; 240 micro-batches" in text
    assert "64 of 64 pipelines" in text
    assert "parallel.pipeline=" not in text, "no other split of 105 layers communicates less by more than 1 %"


def test_the_hostfile_realises_the_mapping(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--hostfile", "hosts", "--ranks", "placement.json", "--json"]
    found = json.loads(output(capsys, *RUN, "--placement", *files))
    plan = Plan.read(folder / "placement.json")
    hosts = (folder / "hosts").read_text().split()
    assert hosts == [seat.host for seat in plan.seats] == [row["host"] for row in found["placement"]["ranks"]]
    assert sorted(plan.nodes, key=by_name) == ["n1", "n2", "n3", "n4", "n5", "n7", "n9", "n10"]
    left = {seat.data for seat in plan.seats if seat.host in ("n1", "n3", "n5", "n7", "n9")}
    assert found["seconds"]["chosen"] < found["seconds"]["default"], "names alternate between the leaves"
    assert found["seconds"]["bound"] == found["seconds"]["chosen"]
    assert found["proven_optimal"]
    assert left


def test_spares_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--nodelist", "n[1-4,10]", "--spares", "1", "--placement", "--ranks", "ranks.csv", "model.num_layers=4"]
    text = output(capsys, *RUN, *args)
    rows = list(csv.DictReader((folder / "ranks.csv").read_text().splitlines()))
    assert len(rows) == 8
    used = {row["host"] for row in rows}
    assert f"spare nodes, left out: {({'n1', 'n2', 'n3', 'n4', 'n10'} - used).pop()}\n" in text


def test_without_placement_it_shows_slurms_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, *RUN, "--show", "--hostfile", "hosts")
    assert "uneven" in text
    assert "default s" in text
    assert "chosen" not in text
    assert (folder / "hosts").read_text().split() == [f"n{i}" for i in (1, 2, 3, 4, 5, 7, 9, 10) for _ in range(2)]


def test_a_topology_gives_names_and_tree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "topology.conf").write_text(
        "SwitchName=l0 Nodes=m[1,3]\nSwitchName=l1 Nodes=m[2,4]\nSwitchName=s Switches=l[0-1]\n"
    )
    found = json.loads(output(capsys, *RUN, "--topology", "topology.conf", "--placement", "--json"))
    plan = Plan.from_json(json.dumps(found["placement"]))
    assert sorted(plan.nodes) == ["m1", "m2", "m3", "m4"]
    assert found["seconds"]["chosen"] < found["seconds"]["default"]


@pytest.mark.parametrize("form", ["svg", "png"])
def test_pictures(folder: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    output(capsys, *RUN, "--placement", "--picture", f"map.{form}")
    found = (folder / f"map.{form}").read_bytes()
    assert found.startswith(b"\x89PNG" if form == "png" else b"<?xml")
    output(capsys, *RUN, "--placement", "--picture", f"again.{form}")
    assert found == (folder / f"again.{form}").read_bytes()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--nodes", "0"], "--nodes 0: at least 1"),
        (["--nodes", "9"], "--nodes 9: toy has 8 (cluster.yaml: nodes)"),
        (["--nodes", "9", "--placement"], "--nodes 9 --spares 0: cluster.yaml has 8 nodes"),
        (["--nodes", "2", "--nodelist", "n1"], "give one of the two"),
        (["--nodelist", "n[1-3"], "n[1-3"),
        (["--nodelist", "n[1-2],n99"], "n99"),
        (["--nodelist", "n[1-2]", "--spares", "2", "--placement"], "leaves none of the 2"),
        (["--spares", "1"], "--placement"),
        (["--ranks-per-node", "3"], "has 2 GPUs"),
        (["--picture", "map.pdf"], "must end in .svg or .png"),
        (["--ranks", "ranks.txt"], "must end in .json or .csv"),
        (["--nodes", "3", "--placement"], "needs a multiple of 4 ranks"),
        (["--nodes", "3", "--fixed"], "needs a multiple of 4 ranks"),
        (["--nodes", "2"], "peak_tflops and compute are needed"),
        (["--topology", "none.conf"], "none.conf"),
        (["--hostfile", "none/hosts"], "can't be written"),
    ],
)
def test_bad_input_is_named(folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], says: str) -> None:
    assert cli.main([*RUN, *args]) == 2
    assert says in capsys.readouterr().err


def test_a_cluster_without_levels_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cluster.yaml").write_text("name: c\nnodes: 2\ngpus_per_node: 2\n")
    assert cli.main([*RUN, "--placement"]) == 2
    assert "levels" in capsys.readouterr().err


def test_cpu_nodes_take_any_number_of_ranks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cluster.yaml").write_text(
        CLUSTER.replace("gpus_per_node: 2", "gpus_per_node: 0").replace(", rails: 2", "")
    )
    found = json.loads(output(capsys, *RUN, "--placement", "--ranks-per-node", "2", "--json"))
    assert found["nodes"] == 8


def test_names_are_sorted_as_slurm_does() -> None:
    assert sorted(["n10", "n9", "m1x02", "m1x1", "n"], key=by_name) == ["m1x1", "m1x02", "n", "n9", "n10"]


def test_a_single_rank_has_nothing_to_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", "run.yaml", "--cluster", "cluster.yaml", "--nodes", "1", "--ranks-per-node", "1", "--placement"]
    found = json.loads(output(capsys, *args, "--json", "--picture", "map.png"))
    assert found["seconds"] == {"chosen": 0, "default": 0, "bound": 0}
    assert "nothing to say" in output(capsys, *args)


def test_tensor_groups_may_straddle_nodes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", "run.yaml", "--cluster", "cluster.yaml", "--placement", "--json", "model.num_layers=4"]
    for tensor, nodes in ((4, 8), (3, 6)):
        sizes = [f"parallel.tensor={tensor}", f"model.hidden_size={16 * tensor}", f"model.num_attention_heads={tensor}"]
        more = [f"model.vocab_multiple={64 * tensor}", f"model.ffn_hidden_size={64 * tensor}", "batch.global=16"]
        found = json.loads(output(capsys, *args, *sizes, *more, "--nodes", str(nodes)))
        assert found["nodes"] == nodes
        assert found["seconds"]["bound"] <= found["seconds"]["chosen"] <= found["seconds"]["default"]
