"""Heartbeat files, and who is blamed when nothing moves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron_nlg.parallel.heartbeats import Heartbeat, behind, heartbeat_path, read_heartbeats, write_heartbeat


def beat(rank: int, step: int = 7, phase: str = "wait", count: int = 1) -> Heartbeat:
    return Heartbeat(rank, f"node{rank // 2}", 100 + rank, step, phase, beats=step, count=count, time=0.0)


any_heartbeat = st.builds(
    Heartbeat,
    rank=st.integers(0, 99),
    host=st.text(max_size=8),
    pid=st.integers(0),
    step=st.integers(0),
    phase=st.text(max_size=8),
    beats=st.integers(0),
    count=st.integers(0),
    time=st.floats(0, 1e12),
    window=st.tuples(st.integers(0), st.integers(0)),
    seconds=st.dictionaries(st.text(max_size=8), st.floats(0, 1e6)),
)


@given(any_heartbeat)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, heartbeat: Heartbeat) -> None:
    (tmp_path / "heartbeats").mkdir(exist_ok=True)
    write_heartbeat(tmp_path, heartbeat)
    assert read_heartbeats(tmp_path, 100)[heartbeat.rank] == heartbeat
    heartbeat_path(tmp_path, heartbeat.rank).unlink()
    assert read_heartbeats(tmp_path) == {}


@given(st.one_of(st.binary(max_size=60), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_no_heartbeat_is_left_out(tmp_path: Path, content: bytes | str) -> None:
    (tmp_path / "heartbeats").mkdir(exist_ok=True)
    path = heartbeat_path(tmp_path, 0)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    write_heartbeat(tmp_path, beat(1))
    assert read_heartbeats(tmp_path) == read_heartbeats(tmp_path, 2) == {1: beat(1)}


def test_a_rank_whose_file_stands_still_is_blamed_whatever_the_others_do() -> None:
    before = {rank: beat(rank) for rank in range(3)}
    after = {rank: beat(rank, count=2) for rank in range(3)} | {1: beat(1)}
    assert behind(before, after, 3) == [
        "rank 1 (node node0, process 101) gives no sign of life; it was last seen in step 7, wait"
    ]
    del after[1]
    assert behind(before, after, 3) == ["rank 1 has given no sign of life"]


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ({2: {"phase": "data"}}, ["rank 2 (node node1, process 102) lives and does not move in step 7, data"]),
        (
            {0: {"step": 6, "phase": "optimizer"}, 2: {"phase": "data"}},
            ["rank 0 (node node0, process 100) lives and does not move in step 6, optimizer"],
        ),
        (
            {0: {"phase": "optimizer"}, 2: {"phase": "optimizer", "beats": 3}},
            [
                "rank 2 (node node1, process 102) lives and does not move in step 7, optimizer",
                "rank 0 (node node0, process 100) lives and does not move in step 7, optimizer",
            ],
        ),
        (
            {},
            [
                f"rank {r} (node node{r // 2}, process {100 + r}) lives and does not move in step 7, wait"
                for r in range(3)
            ],
        ),
    ],
)
def test_when_all_live_it_is_the_last_that_do_not_wait(
    changes: dict[int, dict[str, object]], blamed: list[str]
) -> None:
    before = {rank: beat(rank) for rank in range(3)}
    after = {rank: replace(beat(rank, count=2), **changes.get(rank, {})) for rank in range(3)}  # type: ignore[arg-type]
    assert behind(before, after, 3) == blamed


def test_reading_needs_no_torch() -> None:
    code = "import sys, megatron_nlg.parallel.heartbeats; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
