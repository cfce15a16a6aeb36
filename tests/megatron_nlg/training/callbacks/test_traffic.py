"""Counters become a step's bytes."""

from pathlib import Path

import pytest

from megatron_nlg.parallel.counters import Carried, NodeTraffic, read_traffic, write_traffic
from megatron_nlg.training.callbacks import traffic
from megatron_nlg.training.callbacks.traffic import Traffic
from tests.megatron_nlg.training.callbacks.example import run_in


def environment(monkeypatch: pytest.MonkeyPatch, local_rank: int, local_ranks: int) -> None:
    for name, value in (
        ("RANK", local_rank),
        ("WORLD_SIZE", 4),
        ("LOCAL_RANK", local_rank),
        ("LOCAL_WORLD_SIZE", local_ranks),
    ):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "here")


def test_the_first_step_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, 0, 2)
    callback, run = Traffic(), run_in(tmp_path)
    for step in range(run.start_step + 1, run.start_step + 6):
        monkeypatch.setattr(traffic, "carried", lambda step=step: Carried(1000 * step**2, 500 * step, "network"))
        callback.on_step_start(run, step)
    callback.on_end(run, run.start_step + 5, "done")
    (found,) = read_traffic(tmp_path)
    first, last = run.start_step + 2, run.start_step + 5
    assert (found.steps, found.received_bytes) == (3, 500)
    assert found.sent_bytes == pytest.approx(1000 * (last**2 - first**2) / 3)


@pytest.mark.parametrize(("local_rank", "local_ranks"), [(1, 2), (0, 4)])
def test_other_ranks_and_single_nodes_count_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_rank: int, local_ranks: int
) -> None:
    environment(monkeypatch, local_rank, local_ranks)
    callback, run = Traffic(), run_in(tmp_path)
    for step in range(1, 9):
        callback.on_step_start(run, step)
    callback.on_end(run, 8, "done")
    assert read_traffic(tmp_path) == []


def test_what_an_earlier_job_left_on_other_nodes_is_removed(tmp_path: Path) -> None:
    write_traffic(tmp_path, NodeTraffic("gone", 10, 1.5, 2.5, 0.1, "network"))
    Traffic().on_start(run_in(tmp_path))
    assert read_traffic(tmp_path) == []


def test_steps_that_are_taken_again_count_and_a_silent_adapter_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, 0, 2)
    callback, run = Traffic(), run_in(tmp_path)
    for count, step in enumerate((1, 2, 3, 4, 2, 3)):  # back to step 2 after the fourth
        monkeypatch.setattr(traffic, "carried", lambda count=count: Carried(100 * count, 0, "network"))
        callback.on_step_start(run, step)
    callback.on_end(run, 3, "done")
    (found,) = read_traffic(tmp_path)
    assert (found.steps, found.sent_bytes) == (4, 100)

    def silent() -> Carried:
        raise OSError(22, "Invalid argument")

    callback = Traffic()
    callback.on_start(run)
    monkeypatch.setattr(traffic, "carried", silent)
    for step in range(1, 5):
        callback.on_step_start(run, step)
    callback.on_end(run, 4, "done")
    assert read_traffic(tmp_path) == []
