"""Fixtures of the launcher's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.launch.minislurm import MiniSlurm, missing


@pytest.fixture(scope="session")
def slurm() -> Iterator[MiniSlurm]:
    """A real SLURM of four nodes with two (fake) GPUs each."""
    if absent := missing():
        pytest.skip(
            f"SLURM is not installed ({', '.join(absent)}): apt-get install slurmctld slurmd slurm-client munge"
        )
    cluster = MiniSlurm(nodes=4, gpus=2)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
