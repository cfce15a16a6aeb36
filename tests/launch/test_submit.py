"""Scripts in the run folder, and what sbatch says of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from launch.slurm import batch_script
from launch.submit import submit, write_script
from megatron_nlg.config.errors import InputError, MegatronNlgError
from tests.launch.test_slurm import JOB


def test_write_replaces_the_script_and_leaves_nothing_else(tmp_path: Path) -> None:
    job = replace(JOB, run=tmp_path / "runs" / "first")
    path = write_script(job.run, "job.sbatch", batch_script(job))
    assert path == tmp_path / "runs" / "first" / "job.sbatch"
    again = replace(job, nodes=3)
    assert write_script(again.run, "job.sbatch", batch_script(again)) == path
    assert path.read_text() == batch_script(again)
    assert os.access(path, os.X_OK)
    assert sorted(p.name for p in job.run.iterdir()) == ["job.sbatch", "logs"]


def test_a_folder_that_can_not_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"job\.sbatch can't be written there: Not a directory"):
        write_script(tmp_path / "file", "job.sbatch", "")


def test_a_failed_write_leaves_the_old_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_script(tmp_path, "job.sbatch", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_script(tmp_path, "job.sbatch", "new")
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.sbatch", "logs"]


def test_submit_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not installed here"):
        submit(tmp_path / "job.sbatch")


def test_a_chain_that_breaks_off_is_withdrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in {
        "sbatch": 'echo "$*" >>LOG; [ "$(wc -l <LOG)" -lt 3 ] || { echo "too many jobs" >&2; exit 1; }; wc -l <LOG',
        "scancel": 'echo "scancel $*" >>LOG',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{body.replace('LOG', str(tmp_path / 'log'))}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert submit(Path("job.sbatch"), 2) == ["1", "2"]
    assert (tmp_path / "log").read_text().splitlines() == [
        "--parsable job.sbatch",
        "--parsable --dependency=afterany:1 job.sbatch 1",
    ]
    (tmp_path / "log").unlink()
    with pytest.raises(MegatronNlgError, match=r"sbatch job\.sbatch failed: too many jobs"):
        submit(Path("job.sbatch"), 3)
    assert (tmp_path / "log").read_text().splitlines()[-1] == "scancel 1 2"
