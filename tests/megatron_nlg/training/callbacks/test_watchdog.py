"""When the watchdog ends a job and what it says; whole jobs are tested in test_faults.py."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from megatron_nlg.config.errors import NodeFaultError
from megatron_nlg.parallel.heartbeats import FOLDER, Heartbeat, read_heartbeats, write_heartbeat
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.training.callbacks.watchdog import Watchdog
from megatron_nlg.training.phases import Phases
from tests.megatron_nlg.training.callbacks.example import run_in


def alive(folder: Path, rank: int) -> None:
    """The next heartbeat of a rank."""
    count = found.count if (found := read_heartbeats(folder).get(rank)) else 0
    write_heartbeat(folder, Heartbeat(rank, "node", 10 + rank, 5, "wait", 1, count + 1, 0.0))


def watchdog(folder: Path, errors: list[Exception]) -> Watchdog:
    (folder / FOLDER).mkdir()
    run = run_in(folder, "heartbeat.interval_seconds=0.02", "watchdog.timeout_seconds=0.2", layout=Layout(data=2))
    return Watchdog(run, 0, Phases(), errors.append)


def test_progress_keeps_it_quiet_and_a_stopped_rank_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    errors: list[Exception] = []
    made = watchdog(tmp_path, errors)
    for rank in (0, 1):
        alive(tmp_path, rank)
    for _ in range(10):  # longer than the time-out, with progress
        made.phases.beat()
        made.look()
        time.sleep(0.03)
    assert errors == []
    start = time.monotonic()
    while not errors and time.monotonic() - start < 20:
        alive(tmp_path, 0)  # rank 1 is silent
        made.look()
        time.sleep(0.02)
    assert isinstance(errors[0], NodeFaultError) and errors[0].exit_code == 4
    assert "rank 1 (node node, process 11) gives no sign of life" in str(errors[0])
    assert "test_watchdog.py" in capfd.readouterr().err  # the stacks
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert event["event"] == "hang" and "rank 1" in event["ranks"][0]


def test_a_rank_that_moves_again_is_let_go_on(tmp_path: Path) -> None:
    errors: list[Exception] = []
    made = watchdog(tmp_path, errors)
    time.sleep(0.25)
    made.look()
    made.phases.beat()
    time.sleep(0.1)
    made.look()
    assert errors == []


def test_a_checkpoint_may_take_longer(tmp_path: Path) -> None:
    errors: list[Exception] = []
    made = watchdog(tmp_path, errors)
    made.phases.enter("checkpoint")
    made.look()
    time.sleep(0.25)
    made.look()
    assert made._suspected is None
    made.phases = replace_phase(made.phases)
    made.look()
    assert made._suspected is not None


def replace_phase(phases: Phases) -> Phases:
    """The same beats in another phase."""
    phases.name = "optimizer"
    return phases
