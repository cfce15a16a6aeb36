"""What a node tells of itself."""

import stat
from pathlib import Path

import pytest

from megatron_nlg.training.preflight import machine
from megatron_nlg.training.preflight.machine import disk_problems, gpu_problems, kernel_log, xid_problems


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name that prints what the file beside it says."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/says\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "says"


def test_gpus_are_counted_and_their_memory_errors_named(nvidia_smi: Path) -> None:
    nvidia_smi.write_text("0, 0\n1, 3\n2, [N/A]\n")
    assert gpu_problems(4) == ["3 GPUs, 4 are expected", "GPU 1 has 3 uncorrected memory errors"]
    nvidia_smi.write_text("0, 0\n1, 0\n")
    assert gpu_problems(2) == []


def test_without_the_driver_gpus_are_a_problem_only_where_there_should_be_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_problems(0) == []
    assert gpu_problems(8) == ["nvidia-smi does not answer"]
    assert kernel_log() is None


def test_fatal_xid_errors_are_told_from_those_of_programs() -> None:
    log = """\
NVRM: Xid (PCI:0000:4e:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
NVRM: Xid (PCI:0000:4e:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
NVRM: Xid (PCI:0000:10:00): 13, pid=4711, name=python, Graphics Exception
"""
    assert xid_problems(log) == ["GPU at 0000:4e:00: Xid 79"]


def test_the_disk_is_written_and_what_is_free_is_compared(tmp_path: Path) -> None:
    assert disk_problems(tmp_path, 0) == []
    assert list(tmp_path.iterdir()) == []
    (problem,) = disk_problems(tmp_path, 1 << 62)
    assert "GB free, 4611686018.4 are needed" in problem


def test_a_folder_that_is_gone_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_problems(tmp_path / "none", 0) == [f"{tmp_path}/none can't be written: No such file or directory"]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine.os, "fsync", full)
    assert disk_problems(tmp_path, 0) == [f"{tmp_path} can't be written: No space left on device"]
    assert list(tmp_path.iterdir()) == []
