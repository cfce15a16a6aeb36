from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launch.array import ArrayJob, array_script
from launch.submit import submit, write_script
from megatron_nlg.config.errors import InputError
from tests.launch.minislurm import MiniSlurm, wait_until

JOB = ArrayJob(
    words=("sweep", "/data/run.yaml", "--grid", "optimizer.lr=1e-3,1e-2", "--out", "/data/my sweep"),
    folder=Path("/data/my sweep"),
    count=6,
    at_once=2,
    cpus=3,
    python=Path("/env/bin/python"),
    directory=Path("/data"),
)

PROGRAM = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
pathlib.Path(sys.argv[-1]).write_text(" ".join(sys.argv[1:]))
time.sleep(100 if sys.argv[-1] == "1" else 0)
"""


def test_the_script_asks_for_what_it_was_told(tmp_path: Path) -> None:
    script = array_script(replace(JOB, partition="short", time="30:00", gpu_option="--gpus-per-node=1"))
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"--array=0-5%2", "--cpus-per-task=3", "--partition=short", "--gpus-per-node=1"} <= set(options)
    assert '--output="/data/my sweep/logs/slurm-%A_%a.out"' in options
    assert "/env/bin/python -m megatron_nlg.cli sweep /data/run.yaml --grid optimizer.lr=1e-3,1e-2" in script
    (tmp_path / "script").write_text(script)
    subprocess.run(["bash", "-n", str(tmp_path / "script")], check=True)


def test_a_name_that_no_script_can_hold() -> None:
    with pytest.raises(InputError, match="can't be written into an sbatch file"):
        array_script(replace(JOB, folder=Path('/data/a"b')))


@pytest.mark.slow
@pytest.mark.slurm
def test_jobs_of_an_array_are_told_which_they_are(
    slurm: MiniSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs a program that writes down its task; the second is told that its time is up, and queued again."""
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "job.py").write_text(PROGRAM)
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} job.py "$@"\n')
    (tmp_path / "python").chmod(0o755)
    words = ("sweep", "run.yaml")
    job = replace(JOB, words=words, folder=tmp_path, directory=tmp_path, count=2, cpus=1, python=tmp_path / "python")
    (number,) = submit(write_script(tmp_path, "a.sbatch", array_script(job)))
    wait_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), 60, "both jobs")
    assert (tmp_path / "1").read_text() == "-m megatron_nlg.cli sweep run.yaml --task 1"
    slurm.run("scancel", "--batch", "--signal=USR1", f"{number}_1")
    wait_until(lambda: "Restarts=1" in slurm.run("scontrol", "show", "job", f"{number}_1"), 60, "the job's return")
    slurm.run("scancel", number)
