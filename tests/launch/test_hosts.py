"""Jobs on nodes without SLURM: the list of nodes, and a script whose ssh is played by bash on this machine."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.hosts import host_script, hostfile, read_hosts
from launch.job import Job
from megatron_nlg.config.errors import InputError

JOB = Job(
    config=Path("/data/run.yaml"),
    overrides=("a=b c", "d='$HOME'"),
    run=Path("/data/runs/first"),
    nodes=2,
    ranks_per_node=2,
    summary="run",
    python=Path("/env/bin/python"),
    directory=Path("/"),
    launcher="torchrun",
)


def test_names_one_a_line_as_people_and_deepspeed_write_them(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# ours\nn1 slots=8\n\n  10.0.0.2  # the second\nn-3.cluster\n")
    assert read_hosts(path) == ["n1", "10.0.0.2", "n-3.cluster"]
    path.write_text(hostfile(["n1", "n2"], 4))
    assert read_hosts(path) == ["n1", "n2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n1\nn1\n", ":2: n1 was named before"),
        ("n1\nn2 n3\n", ":2: found 'n2 n3', expected the name of a node"),
        ("n1;reboot\n", ":1: found 'n1;reboot'"),
        ("-oProxyCommand=x\n", ":1: found '-oProxyCommand=x'"),
        ("# nothing\n", "names no node"),
    ],
)
def test_what_is_no_list_of_nodes(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_hosts(path)
    assert said in str(caught.value)
    with pytest.raises(InputError, match="can't be read"):
        read_hosts(tmp_path / "absent")


@given(st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_a_list_or_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(content)
    try:
        hosts = read_hosts(path)
    except InputError:
        return
    assert hosts
    assert not any(set(host) & set(" \t;$'\"") for host in hosts)


def test_deepspeeds_launcher_gets_its_hostfile() -> None:
    script = host_script(replace(JOB, launcher="deepspeed"), ["n1", "n2"])
    assert hostfile(["n1", "n2"], 2) == "n1 slots=2\nn2 slots=2\n"
    assert "--hostfile /data/runs/first/hostfile --master_addr n1 --master_port 29500" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """job.sh with an ssh that runs the command here, and a python that says what it got."""
    for name, body in {
        "ssh": 'shift 3; HOST=$1; export HOST; shift; exec bash -c "$*"',  # -tt -o OPTION HOST COMMAND
        "python": 'echo "$HOST in $PWD: $*"; [ "$HOST" != bad ] || exit 5; [ "$HOST" != slow ] || exec sleep 60',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "job.sh"


def run(script: Path, hosts: list[str]) -> subprocess.CompletedProcess[str]:
    job = replace(JOB, python=script.parent / "python", nodes=len(hosts))
    script.write_text(host_script(job, hosts))
    return subprocess.run(["bash", str(script)], check=False, capture_output=True, text=True, timeout=30)


def test_every_node_gets_its_torchrun_and_overrides_as_they_are(script: Path) -> None:
    done = run(script, ["n1", "n2"])
    assert (done.returncode, done.stderr) == (0, "")
    about = "-m torch.distributed.run --nnodes=2 --nproc-per-node=2 --node-rank={} --master-addr=n1 --master-port=29500"
    train = "-m megatron_nlg.cli train /data/run.yaml a=b c d='$HOME' --out /data/runs/first"
    assert sorted(done.stdout.splitlines()) == [
        f"n1 in /: {about.format(0)} {train}",
        f"n2 in /: {about.format(1)} {train}",
    ]


def test_a_node_that_fails_ends_the_others_and_gives_its_code(script: Path) -> None:
    assert run(script, ["slow", "bad"]).returncode == 5
