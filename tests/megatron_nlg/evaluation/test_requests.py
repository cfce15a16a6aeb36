"""The fast builder makes the harness's own requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.evaluation.harness import Source, build_task, own_tasks
from tests.megatron_nlg.evaluation.sets import write_sets


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("name", own_tasks())
def test_requests_are_equal(data: Path, name: str, shots: int, same: bool) -> None:
    made = []
    for fast in (False, True):
        task = build_task(name, shots, Source(data, same, fast))
        task.build_all_requests(limit=4)
        made.append(task.instances)
        assert len({instance.doc_id for instance in task.instances}) == 4
    assert made[0] == made[1]
    if shots and same and name == "piqa":
        assert len({instance.args[0].split("\n\n")[0] for instance in made[0]}) == 1


def test_what_it_does_not_know_is_the_harness_to_build(data: Path) -> None:
    made = []
    for fast in (False, True):
        task = build_task("boolq", 1, Source(data, fast_requests=fast))
        task.build_all_requests(limit=3, system_instruction="Think.")
        made.append(task.instances)
    assert made[0] == made[1] and made[0][0].args[0].startswith("Think.")
