"""The thread's files and windows, without a job."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.parallel.heartbeats import read_heartbeats
from megatron_nlg.training.callbacks.heartbeat import HeartbeatThread
from megatron_nlg.training.phases import Phases
from tests.job import until
from tests.megatron_nlg.training.callbacks.example import run_in


def test_a_thread_writes_until_the_end(tmp_path: Path) -> None:
    run = run_in(tmp_path, "heartbeat.interval_seconds=0.02", "watchdog.timeout_seconds=0", "stragglers.interval=2")
    phases = Phases()
    callback = HeartbeatThread(3, phases)
    callback.on_start(run)
    first = read_heartbeats(tmp_path)[3]
    until(lambda: read_heartbeats(tmp_path)[3].count > first.count + 1, "heartbeats go on")
    for step in range(1, 4):
        callback.on_step_start(run, step)
        phases.enter("data")
        phases.enter("forward-backward")
    until(lambda: read_heartbeats(tmp_path)[3].window == (1, 2), "the window of two steps")
    seen = read_heartbeats(tmp_path)[3]
    assert (seen.step, seen.phase) == (3, "forward-backward")
    assert set(seen.seconds) == {"start", "data", "forward-backward"} and seen.beats == 6
    callback.on_end(run, 3, "done")
    last = read_heartbeats(tmp_path)[3]
    assert last.phase == "ended"
    assert callback._thread and not callback._thread.is_alive()


def test_a_run_folder_that_goes_away_does_not_end_training(tmp_path: Path) -> None:
    run = run_in(tmp_path / "none", "heartbeat.interval_seconds=0.02")
    callback = HeartbeatThread(0, Phases())
    callback.on_start(run)
    callback.on_end(run, 1, "done")
    assert not (tmp_path / "none").exists()
