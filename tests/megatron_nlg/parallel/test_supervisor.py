"""Local ranks: what the supervisor says and returns for every way they can end, and that none is left."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.parallel import supervisor
from megatron_nlg.parallel.supervisor import STOPPED, _is_consequence, check_port, local_ranks
from tests.job import Job, can_fork, until

GONE = 10
"""Seconds within which all ranks must have gone."""


@contextmanager
def job(name: str, logs: Path, ranks: int, env: dict[str, str] | None = None) -> Iterator[Job]:
    logs.mkdir(exist_ok=True)
    (logs / "ready").mkdir(exist_ok=True)
    env = {"READY": str(logs / "ready"), **(env or {})}
    started = Job("tests.megatron_nlg.parallel.ranks", [name, str(logs), str(ranks)], env, can_fork())
    try:
        yield started
    finally:
        started.kill()


def ready(logs: Path, ranks: int) -> Callable[[], bool]:
    return lambda: len(list((logs / "ready").iterdir())) == ranks


def test_done(tmp_path: Path) -> None:
    with job("done", tmp_path, 2) as running:
        assert running.wait() == (0, "said on the terminal\n" * 2, "")
        assert running.alive() == []
    for rank in (0, 1):
        assert (tmp_path / f"rank_{rank}.log").read_text() == f"rank {rank} of 2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank_0.log", "rank_1.log", "ready"]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("input", 2, "data.blend: none.yaml: no such file; name another one"),
        ("full", 1, "/data/metrics.jsonl: No space left on device; free some space and start again"),
        ("peers fail first", 1, "the cause"),
    ],
)
def test_a_failure_is_said_once_by_its_cause_and_ends_all_ranks(
    tmp_path: Path, name: str, code: int, said: str
) -> None:
    with job(name, tmp_path, 2) as running:
        assert running.wait() == (code, "", f"ranks: {said}\n")
        assert running.alive() == []
    assert "Traceback" in (tmp_path / "rank_1.log").read_text()  # for who looks for more


def test_a_killed_rank_ends_the_job(tmp_path: Path) -> None:
    """The others would sleep for longer than is waited for here. How soon they have gone: benchmarks/faults.py."""
    with job("hang", tmp_path, 3) as running:
        until(ready(tmp_path, 3), "ranks hang")
        os.kill(running.ranks()[1], signal.SIGKILL)
        code, _, err = running.wait()
        assert running.alive() == []
    assert (code, err) == (
        1,
        "ranks: rank 1 died without a word (killed from outside, or for want of memory) and the others have been "
        f"ended; the same command goes on from what is saved; logs: {tmp_path}\n",
    )


def test_a_killed_supervisor_leaves_no_rank(tmp_path: Path) -> None:
    with job("wait", tmp_path, 2) as running:
        until(ready(tmp_path, 2), "ranks wait")
        running.process.kill()
        until(lambda: not running.alive(), "ranks end with their supervisor", GONE)


def test_signals_reach_the_ranks_and_the_job_says_that_it_was_stopped(tmp_path: Path) -> None:
    with job("wait", tmp_path, 2) as running:
        until(ready(tmp_path, 2), "ranks wait")
        os.kill(running.process.pid, signal.SIGUSR1)
        assert running.wait(GONE) == (STOPPED, "", "")
        assert running.alive() == []
    assert (tmp_path / "rank_1.log").read_text() == "rank 1 of 2\ncaught SIGUSR1\n"


def test_a_signal_that_comes_before_the_ranks_is_for_them_too(tmp_path: Path) -> None:
    with job("told early", tmp_path, 2) as running:
        assert running.wait(GONE) == (STOPPED, "", "")
        assert running.alive() == []
    assert not any((tmp_path / "ready").iterdir())


def test_a_third_interrupt_ends_ranks_that_do_not_listen(tmp_path: Path) -> None:
    with job("hang", tmp_path, 2) as running:
        until(ready(tmp_path, 2), "ranks hang")
        for _ in range(3):
            os.killpg(running.process.pid, signal.SIGINT)  # a terminal's Ctrl-C
            time.sleep(0.2)
        code, _, _ = running.wait(GONE)
        assert code == 1
        assert running.alive() == []


def test_other_exit_codes_are_failures(tmp_path: Path) -> None:
    with job("half stopped", tmp_path, 2) as running:
        code, _, err = running.wait()
    assert code == 1 and err.count("\n") == 1 and "Traceback" not in err


# ---- starting again ------------------------------------------------------------------------------------------------


def test_a_lost_rank_is_started_again_with_all_others(tmp_path: Path) -> None:
    with job("killed once", tmp_path, 2, {"RESTARTS": "1"}) as running:
        code, _, err = running.wait()
        assert running.alive() == []
    assert code == 0 and err.startswith("restart 1 of 1: rank 1 died without a word") and err.count("\n") == 1
    assert (tmp_path / "rank_0.log").read_text().count("rank 0 of 2") == 2


def test_what_would_only_happen_again_is_not_started_again(tmp_path: Path) -> None:
    with job("diverges once", tmp_path, 2, {"RESTARTS": "3"}) as running:
        assert running.wait() == (5, "", "ranks: the loss is nan\n")
    assert (tmp_path / "rank_1.log").read_text().count("rank 1 of 2") == 1


def test_ranks_of_a_job_that_was_told_to_stop_are_not_started_again(tmp_path: Path) -> None:
    with job("hang", tmp_path, 2, {"RESTARTS": "9"}) as running:
        until(ready(tmp_path, 2), "ranks hang")
        os.kill(running.ranks()[0], signal.SIGKILL)
        until(ready(tmp_path, 4), "ranks hang again")
        running.process.terminate()
        time.sleep(0.2)
        os.kill(running.ranks()[1], signal.SIGKILL)
        code, _, err = running.wait(2 * GONE)
    assert code == 1 and [line.split(":")[0] for line in err.splitlines()] == ["restart 1 of 9", "ranks"]


# ---- ranks that something else started -----------------------------------------------------------------------------


def rank_env(rank: int, ranks: int) -> dict[str, str]:
    return {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "RANK": str(rank), "WORLD_SIZE": str(ranks)}


def test_rank_0_speaks_at_once_and_the_others_when_nobody_has_ended_them(tmp_path: Path) -> None:
    with (
        job("all input", tmp_path, 0, rank_env(0, 2)) as first,
        job("all input", tmp_path, 0, rank_env(1, 2)) as other,
    ):
        assert first.wait() == (2, "", "rank 0: seed: is wrong; choose another\n")
        first_ended = time.monotonic()
        assert other.wait() == (2, "", "rank 1: seed: is wrong; choose another\n")
        assert time.monotonic() - first_ended < GONE


def test_a_bug_is_said_by_the_rank_that_has_it(tmp_path: Path) -> None:
    with job("bug", tmp_path, 0, rank_env(1, 2)) as running:
        assert running.wait() == (1, "", "rank 1: ZeroDivisionError: division by zero\n")


# ---- one process ---------------------------------------------------------------------------------------------------


def test_no_more_ranks_than_gpus_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "local_device_count", lambda: None)
    assert (local_ranks(None), local_ranks(64)) == (1, 64)
    with pytest.raises(InputError, match="--nproc 0: start at least one rank"):
        local_ranks(0)
    monkeypatch.setattr(supervisor, "local_device_count", lambda: 4)
    assert (local_ranks(None), local_ranks(2)) == (4, 2)
    with pytest.raises(InputError, match="--nproc 5: this machine has 4 GPUs"):
        local_ranks(5)


def test_a_port_is_tried_before_ranks_start() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--master-port {port}: Address already in use; choose a free one"):
            check_port(port)
    check_port(port)
    for bad in (70000, -1):
        with pytest.raises(InputError, match=f"--master-port {bad}: .*65535"):
            check_port(bad)


@pytest.mark.parametrize(
    ("error", "consequence"),
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), True),
        (RuntimeError("NCCL error: remote process exited"), True),
        (RuntimeError("shapes do not match"), False),
        (MegatronNlgError("gloo is said here, by us"), False),
    ],
)
def test_causes_and_consequences(error: Exception, consequence: bool) -> None:
    assert _is_consequence(error) is consequence


def test_a_broken_gpu_is_a_fault_of_the_node() -> None:
    failure = supervisor._failure(RuntimeError("CUDA error: uncorrectable ECC error encountered"), Path("logs"))
    assert failure.code == 4
    assert supervisor._failure(RuntimeError("shapes do not match"), Path("logs")).code == 1
