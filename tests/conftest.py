"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.launch.minislurm import MiniSlurm, missing

# Timings say nothing on a machine that runs several things at once.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest first, so that workers end together: a slow test counts for thirty."""
    weights: Counter[str] = Counter()
    for item in items:
        weights[str(item.path)] += 30 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -weights[str(item.path)])


@pytest.fixture(scope="session")
def world() -> Iterator[object]:
    """Eight gloo workers, started at the first multi-rank test; see tests/world.py."""
    from megatron_nlg.parallel.device import select_device

    select_device()
    import megatron_nlg.training.engine  # noqa: F401 - imported once, before the workers fork
    from tests.world import World

    world = World()
    yield world
    world.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real material outside the repository: $MEGATRON_NLG_DATA, else ../shared/data."""
    folder = Path(os.environ.get("MEGATRON_NLG_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MEGATRON_NLG_DATA")
    return folder


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
