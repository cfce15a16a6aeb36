"""Memory of local ranks, as the driver tells it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from megatron_nlg.planning.footprint import CPU, CUDA
from megatron_nlg.training.room import local_room


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH for an nvidia-smi of the test's own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "nvidia-smi"


def answer(driver: Path, *lines: str) -> None:
    driver.write_text("#!/bin/sh\n" + "\n".join(f"echo '{line}'" for line in lines))
    driver.chmod(0o755)


def test_the_smallest_gpu(driver: Path) -> None:
    answer(driver, "143771, NVIDIA H200", "81920, NVIDIA A100-SXM4-80GB")
    room = local_room(2)
    assert room
    assert (room.gib, room.of, room.device) == (80, "NVIDIA A100-SXM4-80GB", CUDA)


def test_no_driver_is_a_machine_that_ranks_share(driver: Path) -> None:
    room = local_room(4)
    assert room
    assert room.device is CPU
    assert room.gib == pytest.approx(psutil.virtual_memory().total / 4 / 2**30)


@pytest.mark.parametrize("line", ["[Not Supported], NVIDIA GB10", "No devices were found"])
def test_an_answer_without_a_size_refuses_nothing(driver: Path, line: str) -> None:
    answer(driver, line)
    assert local_room(1) is None
    driver.write_text("#!/bin/sh\nexit 9\n")
    assert local_room(1) is None
