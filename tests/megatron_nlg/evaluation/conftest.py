"""One run for all tests of studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.megatron_nlg.evaluation.ascii_run import write_run
from tests.world import World


@pytest.fixture(scope="session")
def ascii_run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that is only read."""
    return write_run(world, tmp_path_factory.mktemp("ascii"))
