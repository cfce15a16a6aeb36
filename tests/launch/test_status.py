"""`launch status`: from heartbeat files to a verdict and its exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launch import status
from megatron_nlg import cli
from megatron_nlg.parallel.heartbeats import Heartbeat, heartbeat_path, write_heartbeat

RANKS = 4
Beats = dict[int, Heartbeat]


def beat(rank: int, step: int = 7, phase: str = "wait", beats: int = 50, count: int = 1) -> Heartbeat:
    return Heartbeat(rank, f"n{rank // 2}", 100 + rank, step, phase, beats, count, time=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run of four ranks that goes on, in step 7."""
    layout = {"pipeline": 2, "data": 1, "tensor": 2, "interleave": 1, "context": 1}
    events = [
        {"event": "start", "step": 0, "layout": layout | {"data": 9}, "total_steps": 20},
        {"event": "end", "step": 5, "status": "signal"},
        {"event": "resume", "step": 5, "layout": layout, "total_steps": 20},
    ]
    lines = [json.dumps(event) for event in events]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, '{"event": "half a li']))
    (tmp_path / "config.yaml").write_text("heartbeat: {interval_seconds: 2}\n")
    (tmp_path / "heartbeats").mkdir()
    for rank in range(RANKS):
        write_heartbeat(tmp_path, beat(rank))
    return tmp_path


@pytest.fixture
def meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Beats], None]:
    """What ranks write between the two readings."""

    def set_up(later: Beats) -> None:
        def sleep(seconds: float) -> None:
            assert seconds == 5.0
            for heartbeat in later.values():
                write_heartbeat(folder, heartbeat)

        monkeypatch.setattr(status.time, "sleep", sleep)

    return set_up


def said(capsys: pytest.CaptureFixture[str], run: object, *options: str) -> tuple[int, str]:
    code = cli.main(["launch", "status", str(run), *options])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def alive(**changes: int | str) -> Beats:
    """All ranks have written again, and stand still."""
    return {rank: replace(beat(rank), count=3, **changes) for rank in range(RANKS)}  # type: ignore[arg-type]


def test_it_moves(folder: Path, capsys: pytest.CaptureFixture[str], meanwhile: Callable[[Beats], None]) -> None:
    meanwhile(alive(step=8, beats=60) | {1: beat(1, 7, "optimizer", 59, 3)})
    where = "step 7 of 20, 4 ranks (3 in wait, 1 in optimizer)"
    assert said(capsys, folder) == (0, f"{folder}: moves: {where}\n")


def test_a_rank_that_is_gone_is_named_first(
    folder: Path, capsys: pytest.CaptureFixture[str], meanwhile: Callable[[Beats], None]
) -> None:
    meanwhile({rank: beat for rank, beat in alive().items() if rank != 3})
    code, text = said(capsys, folder)
    assert code == 1
    assert "\n  rank 3 (node n1, process 103) gives no sign of life; it was last seen in step 7, wait\n" in text
    meanwhile({rank: replace(beat, count=5) for rank, beat in alive().items() if rank != 2})
    heartbeat_path(folder, 2).unlink()
    assert "\n  rank 2 has given no sign of life\n" in said(capsys, folder)[1]


def test_a_rank_that_hangs_is_named_with_node_and_phase(
    folder: Path, capsys: pytest.CaptureFixture[str], meanwhile: Callable[[Beats], None]
) -> None:
    meanwhile(alive() | {2: beat(2, 7, "data", 50, 3)})
    code, text = said(capsys, folder, "--json")
    found = json.loads(text)
    assert (code, found["state"], found["step"], found["ranks"], found["job"]) == (1, "behind", 7, 4, None)
    (late,) = found["behind"]
    message = "rank 2 (node n1, process 102) lives and does not move in step 7, data"
    about = {"host": "n1", "pid": 102, "step": 7, "phase": "data"}
    assert late == {"rank": 2, "alive": True, "message": message, **about}


def test_it_does_not_run(folder: Path, capsys: pytest.CaptureFixture[str], meanwhile: Callable[[Beats], None]) -> None:
    meanwhile({})  # killed: no rank could say that it ended
    code, text = said(capsys, folder)
    assert code == 3
    assert text.startswith(f"{folder}: not running: step 7 of 20, 4 ranks (4 in wait)\n  rank 0 (node n0")


@pytest.mark.parametrize(("end", "code", "state"), [("done", 0, "done"), ("signal", 3, "not running")])
def test_it_has_ended(folder: Path, capsys: pytest.CaptureFixture[str], end: str, code: int, state: str) -> None:
    with (folder / "events.jsonl").open("a") as events:
        events.write("ne\n" + json.dumps({"event": "end", "step": 20, "status": end}) + "\n")
    found = said(capsys, folder)
    assert (found[0], found[1].splitlines()[0].split(": ")[1]) == (code, state)


def test_a_run_without_heartbeats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.yaml").write_text("heartbeat: {interval_seconds: 0}\n")
    assert said(capsys, folder)[0] == 2


def scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin" / "scontrol"
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_a_job_that_waits_is_found_by_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "my run"
    about = f"JobId=12 JobState=PENDING Reason=Resources Restarts=2 StdOut={run}/logs/slurm-12.out Power="
    scontrol(tmp_path, monkeypatch, f'[ "$*" = "-o show job 12" ] && echo "{about}"')
    job = "job 12: PENDING, Resources, queued again 2 times"
    assert said(capsys, 12) == (3, f"{job}\n{run}: not running: no start\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
            "Invalid job id specified; give its run",
        ),
        ("echo JobId=12 StdOut=/home/x/slurm-12.out", "was not written by `megatron-nlg launch`"),
    ],
)
def test_a_job_that_is_not_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    scontrol(tmp_path, monkeypatch, body)
    code, text = said(capsys, 12)
    assert code == 2
    assert message in text


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(capsys, tmp_path / "absent")[0] == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "scontrol is not installed here; give its run folder" in said(capsys, 12)[1]
