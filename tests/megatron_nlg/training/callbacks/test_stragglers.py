"""Which ranks are named as slow."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.parallel.heartbeats import FOLDER, Heartbeat, write_heartbeat
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.training.callbacks.stragglers import Stragglers, stragglers
from tests.megatron_nlg.training.callbacks.example import run_in


def beat(rank: int, last: int, **seconds: float) -> Heartbeat:
    return Heartbeat(rank, "node", 1, last + 3, "data", 0, 0, 0.0, (last - 9, last), seconds)


USUAL = {"data": 0.1, "forward-backward": 5.0, "wait": 1.0}


def test_a_slow_phase_is_named_and_waiting_is_not() -> None:
    beats = {rank: beat(rank, 10, **USUAL) for rank in range(4)}
    assert stragglers(beats, 1.5) == []
    beats[2] = beat(2, 10, **{**USUAL, "forward-backward": 9.0, "wait": 0.0})
    assert stragglers(beats, 1.5) == [
        {"rank": 2, "node": "node", "phase": "forward-backward", "seconds": 9.0, "median": 5.0}
    ]
    assert stragglers(beats, 2.0) == []
    beats[2] = beat(2, 10, **{**USUAL, "wait": 50.0})  # it waits for others
    assert stragglers(beats, 1.5) == []
    beats[2] = beat(2, 10, **{**USUAL, "data": 0.2})  # twice as slow, in 1.6 % of the time
    assert stragglers(beats, 1.5) == []


def test_a_window_is_compared_once_and_only_when_all_have_written_it(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    watch = Stragglers(run_in(tmp_path, layout=Layout(data=2)))
    write_heartbeat(tmp_path, beat(0, 10, data=5.0))
    assert watch.look() is None  # rank 1 has not written yet
    write_heartbeat(tmp_path, beat(1, 20, data=1.0))
    assert watch.look() is None  # another window
    write_heartbeat(tmp_path, beat(1, 10, data=1.0))
    event = watch.look()
    assert event and event["steps"] == [1, 10] and [slow["rank"] for slow in event["ranks"]] == [0]
    assert watch.look() is None
