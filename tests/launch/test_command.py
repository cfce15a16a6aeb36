from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.planning.parameters import total_parameters
from tests.launch.minislurm import MiniSlurm
from tests.tiny import tiny

CLUSTER = """
name: toy
nodes: 4
gpus_per_node: 2
slurm: {partition: main, account: nlp, time: "1:00:00", setup: ["module load x"]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with run.yaml, its corpus's blend.yaml and cluster.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(to_yaml(tiny("data.blend=blend.yaml")))
    (tmp_path / "blend.yaml").write_text("")
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "hosts").write_text("n1\n")
    return tmp_path


NODES = ["run.yaml", "--out", "run", "--nodes", "2", "--ranks-per-node", "2"]


def test_it_writes_the_job(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", *NODES, "seed=5", "--time", "30", "parallel.tensor=2"]) == 0
    script = (folder / "run" / "job.sbatch").read_text()
    assert f"{folder}/run/job.sbatch: submit it with sbatch" in capsys.readouterr().out
    size = f"{total_parameters(tiny().model):,} parameters"
    assert f"# run.yaml: {size}, tensor 2 × pipeline 1 × data 2 on 2 nodes × 2 ranks" in script
    assert f"config=({folder}/run.yaml seed=5 parallel.tensor=2)\n" in script
    assert f"#SBATCH --chdir={folder}\n" in script
    assert "#SBATCH --time=30\n" in script
    assert sys.executable in script


def test_print_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", *NODES, "--print"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n")
    assert not (folder / "run").exists()


def test_a_cluster_gives_defaults_and_options_override_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["launch", "run.yaml", "--out", "run", "--nodes", "2", "--cluster", "cluster.yaml", "--print"]
    assert cli.main(base) == 0
    script = capsys.readouterr().out
    for line in ("ntasks-per-node=2", "gpus-per-node=2", "partition=main", "account=nlp", "time=1:00:00"):
        assert f"#SBATCH --{line}\n" in script
    assert "\nmodule load x\n" in script
    assert (
        cli.main([*base, "--partition", "long", "--time", "2:00:00", "--account", "cv", "--ranks-per-node", "1"]) == 0
    )
    script = capsys.readouterr().out
    for line in ("ntasks-per-node=1", "gpus-per-node=1", "partition=long", "account=cv", "time=2:00:00"):
        assert f"#SBATCH --{line}\n" in script


def test_a_cluster_brings_its_environment_and_a_topology_the_placement(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "cluster.yaml").open("a") as file:
        file.write("environment: {NCCL_X: {value: 1, reason: it helps}}\n")
    assert cli.main(["launch", *NODES, "--cluster", "cluster.yaml", "--topology", "topology.conf", "--print"]) == 0
    script = capsys.readouterr().out
    assert "\n# it helps\nexport NCCL_X=1\nmodule load x\n" in script
    plan = f"--cluster {folder}/cluster.yaml --topology {folder}/topology.conf --ranks-per-node 2"
    assert f'"${{megatron_nlg[@]}}" plan "${{config[@]}}" {plan} \\\n' in script
    assert '\ntrain+=(--placement "$job/placement.json")\n' in script


def test_an_image_sees_what_the_run_reads_and_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = ["--container", "x.sif", "--container-runtime", "apptainer", "--mount", "/data", "--mount", "/data/more"]
    assert cli.main(["launch", *NODES, *image, "--print"]) == 0
    assert f"apptainer exec --bind /data,{folder} --pwd {folder} x.sif" in capsys.readouterr().out


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_nodes_without_slurm(folder: Path, capsys: pytest.CaptureFixture[str], launcher: str) -> None:
    hosts = ["run.yaml", "--out", "run", "--hosts", "hosts", "--launcher", launcher, "--ranks-per-node", "2"]
    assert cli.main(["launch", *hosts]) == 0
    assert capsys.readouterr().out == f"{folder}/run/job.sh: start it with bash\n"
    assert "on 1 nodes × 2 ranks" in (folder / "run" / "job.sh").read_text()
    assert (folder / "run" / "hostfile").exists() == (launcher == "deepspeed")


def test_tensor_groups_over_nodes_are_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", *NODES, "parallel.tensor=4"]) == 0
    assert "tensor groups of 4 span nodes of 2 ranks" in capsys.readouterr().err
    assert cli.main(["launch", *NODES, "parallel.tensor=2"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*NODES, "model.num_layer=2"], "did you mean model.num_layers?"),
        ([*NODES, "parallel.pipeline=8", "model.num_layers=8"], "needs a multiple of 8 ranks, and there are 4"),
        ([*NODES, "batch.global=6"], "batch.global: 6 is not a multiple"),
        ([*NODES, "data.blend=null"], "data.blend: is required to train"),
        ([*NODES, "data.blend=absent.yaml"], "data.blend: absent.yaml: no such file in"),
        ([*NODES, "--print", "--submit"], "leave out --print or --submit"),
        (NODES[:3], "--nodes: needed, or --hosts FILE"),
        ([*NODES, "--spares", "-1"], "--spares -1: at least 0"),
        ([*NODES, "--jobs", "2"], "--jobs: a chain is made by submitting it; add --submit"),
        ([*NODES, "--switches", "few"], "--switches few: a number is expected"),
        ([*NODES, "--topology", "scontrol"], "--topology: needs --cluster FILE"),
        ([*NODES, "--mount", "/x"], "--mount: is for a --container"),
        ([*NODES, "--launcher", "deepspeed"], "--launcher deepspeed: needs --hosts FILE"),
        ([*NODES, "--launcher", "torchrun", "--spares", "1"], "--launcher torchrun: counts ranks node after node"),
        ([*NODES, "--hosts", "hosts"], "--hosts: srun needs SLURM; choose --launcher torchrun or deepspeed"),
        ([*NODES, "--hosts", "hosts", "--launcher", "torchrun", "--submit"], "--hosts: names nodes without SLURM"),
        ([*NODES, "--hosts", "absent", "--launcher", "torchrun"], "--hosts absent: can't be read"),
        ([*NODES, "--hosts", "hosts", "--launcher", "torchrun"], "--nodes 2: hosts names 1"),
        ([*NODES[:3], "--nodes", "2"], "--ranks-per-node: needed without --cluster"),
        ([*NODES[:3], "--nodes", "0", "--ranks-per-node", "1"], "--nodes 0: at least 1"),
        ([*NODES, "--cluster", "absent.yaml"], "absent.yaml: no such file"),
        ([*NODES[:3], "--nodes", "5", "--cluster", "cluster.yaml"], "--nodes 5: toy has 4"),
        ([*NODES, "--spares", "3", "--cluster", "cluster.yaml"], "--nodes 2 and --spares 3: toy has 4"),
        ([*NODES[:5], "--ranks-per-node", "3", "--cluster", "cluster.yaml"], "a node of toy has 2 GPUs"),
    ],
)
def test_bad_input_exits_2_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert cli.main(["launch", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not (folder / "run").exists()


def test_a_bad_cluster_file_lists_its_problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cluster.yaml").write_text("name: x\nnode: 3\ngpus_per_node: -1\n")
    assert cli.main(["launch", *NODES, "--cluster", "cluster.yaml"]) == 2
    error = capsys.readouterr().err
    assert "cluster.yaml: 3 problems" in error
    assert "node: unknown key; did you mean nodes?" in error


def test_launch_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from megatron_nlg.cli import main\n"
        f"assert main(['launch', *{NODES!r}]) == 0\n"
        "print('LOADED', {'torch', 'deepspeed', 'megatron', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.rstrip().endswith("LOADED set()")


@pytest.mark.slurm
def test_submit(
    slurm: MiniSlurm, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    monkeypatch.setattr(sys, "executable", "/bin/true")  # the ranks end at once
    assert cli.main(["launch", *NODES, "--submit"]) == 0
    said = capsys.readouterr().out.split()
    assert said[0] == "job"
    assert said[-1] == f"{folder}/run/job.sbatch"
    assert slurm.wait(int(said[1]))["JobState"] == "COMPLETED"


def test_what_can_not_fit_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cluster.yaml").write_text(CLUSTER + "memory_gib: 0.5\n")
    words = ["launch", "run.yaml", "--out", "run", "--nodes", "2", "--cluster", "cluster.yaml", "--print"]
    assert cli.main(words) == 2
    assert "needs 0.8 GiB, and an accelerator of toy has 0.5" in capsys.readouterr().err
    assert cli.main([*words, "parallel.check_memory=false"]) == 0
