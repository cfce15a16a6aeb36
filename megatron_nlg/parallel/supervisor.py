"""Local ranks: started by torch's elastic agent, watched, and their failure said once, by its cause.

On the CPU ranks are forked from a supervisor that has imported the libraries, which saves seconds a rank; on GPUs they
are spawned, because CUDA does not survive a fork.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import json
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from megatron_nlg.config.errors import InputError, MegatronNlgError, NodeFaultError, NumericError
from megatron_nlg.parallel.device import local_device_count, select_device
from megatron_nlg.parallel.rendezvous import Rendezvous, yield_to_main

STOPPED = 3
"""Exit code of a job that a signal asked to stop, with its state saved: the same command goes on."""
SHUTDOWN_SECONDS = 1.5
"""After a rank has died, the others get this long to leave by themselves, then as long after SIGTERM."""
TOLD = "MEGATRON_NLG_TOLD_TO_STOP"
"""Set in the supervisor's environment by a stop signal, for ranks that it starts afterwards."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclasses.dataclass(frozen=True)
class Terminal:
    """What a rank's standard streams were before they were sent to its log."""

    out: IO[str]
    err: IO[str]
    fail: Callable[[Exception], None] | None = None
    """Reports an error as this rank's own and ends the process at once; for threads, when the rank itself hangs."""


Body = Callable[[Terminal], int]
"""What a rank does; returns its exit code. Must be picklable where ranks are spawned."""


def quiet_libraries() -> None:
    """Leave out warnings about optional kernels, which kernels.py reports itself."""
    warnings.filterwarnings("ignore", module="megatron|deepspeed|torch")


def local_ranks(wanted: int | None) -> int:
    """Ranks to start: as wanted, else one a GPU, else one. Raises InputError for more than there are GPUs."""
    gpus = local_device_count()
    ranks = gpus or 1 if wanted is None else wanted
    if ranks < 1:
        raise InputError(f"--nproc {ranks}: start at least one rank")
    if gpus is not None and ranks > gpus:
        raise InputError(f"--nproc {ranks}: this machine has {gpus} GPUs; start one rank a GPU at most")
    return ranks


def prepare_fork() -> None:
    """Call before importing what forked ranks are to share: on the CPU the libraries must find their shims."""
    if local_device_count() is None:
        select_device()


def check_port(port: int) -> None:
    """Raise InputError when a rendezvous port can't be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            mend = "choose a free one, or leave --master-port out"
            raise InputError(f"--master-port {port}: {reason}; {mend}") from None


# ---- the supervisor ----------------------------------------------------------------------------------------------


class RankLostError(MegatronNlgError):
    """A rank died without a word."""


def supervise(body: Body, logs: Path, ranks: int, port: int | None = None, max_restarts: int = 0) -> int:
    """Run `body` on local ranks and wait. Returns 0 or STOPPED; raises what made the job fail.

    Ranks are started again, `max_restarts` times, after one was lost or hung; not after what would only happen again.
    `logs` is an existing folder that gets each rank's output as `rank_N.log`. Import what the body needs before, so
    that forked ranks share it.
    """
    os.environ.pop(TOLD, None)
    stops = _forward_signals()
    for attempt in range(1, max_restarts + 2):
        try:
            return _run_ranks(body, logs, ranks, port, f"{os.getpid()}-{attempt}")
        except (RankLostError, NodeFaultError) as fault:
            if attempt > max_restarts or stops:  # who asked to stop wants no new ranks
                raise
            print(f"restart {attempt} of {max_restarts}: {fault}", file=sys.stderr, flush=True)
    raise AssertionError("unreachable")


def _run_ranks(body: Body, logs: Path, ranks: int, port: int | None, name: str) -> int:
    """Start the ranks once and wait for them."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    from torch.multiprocessing.spawn import ProcessContext

    on_cpu = local_device_count() is None
    for library in ("torch.distributed.elastic", "torch.multiprocessing"):  # failures are said below, once
        logging.getLogger(library).setLevel(logging.CRITICAL)
    shutdown: dict[str, Any] = {"shutdown_timeout": math.ceil(SHUTDOWN_SECONDS)}
    if "shutdown_timeout" not in {field.name for field in dataclasses.fields(LaunchConfig)}:
        shutdown = {}  # torch 2.11 reads the environment variable only
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(math.ceil(SHUTDOWN_SECONDS))
    # After a rank's failure neither is asked: join's grace period decides, and elastic leaves it at 30 seconds.
    ProcessContext.join.__defaults__ = (None, SHUTDOWN_SECONDS)
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint=f"localhost:{port or 0}",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork" if on_cpu else "spawn",
        signals_to_handle="SIGHUP,SIGQUIT",
        **shutdown,
    )
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as reports:  # not in the run: its disk may be what is full
        try:
            elastic_launch(launch, _supervised_rank)(body, str(logs), reports)
        except ChildFailedError as error:
            return _explain(error, logs, Path(reports), ranks)
    return 0


def _forward_signals() -> list[int]:
    """Signals to the supervisor are for the ranks: they save and leave. A third Ctrl-C ends them at once.

    Returns the list that received ones go to.
    """
    received: list[int] = []

    def forward(number: int, frame: Any) -> None:
        received.append(number)
        os.environ[TOLD] = str(number)
        force = received.count(signal.SIGINT) >= 3
        for child in multiprocessing.active_children():
            if child.pid:
                os.kill(child.pid, signal.SIGKILL if force else number)

    for number in STOP_SIGNALS:
        signal.signal(number, forward)
    return received


def _explain(error: Any, logs: Path, folder: Path, ranks: int) -> int:
    """Exit code of a job that did not end with 0; raises the ranks' own error, the cause before its consequences."""
    if {failure.exitcode for failure in error.failures.values()} == {STOPPED}:
        return STOPPED
    reports = {
        rank: json.loads(path.read_text(encoding="utf-8"))
        for rank in range(ranks)
        if (path := folder / f"{rank}.json").exists()
    }
    causes = [report for report in reports.values() if not report["consequence"]]
    if causes:
        report = min(causes, key=lambda r: (-r["code"], r["time"]))
        raise _ERRORS.get(report["code"], MegatronNlgError)(report["message"])
    silent = [rank for rank in range(ranks) if rank not in reports]
    if silent:
        first = [rank for rank in error.failures if rank in silent]  # the supervisor has ended the others
        raise RankLostError(
            f"rank {', '.join(map(str, first or silent))} died without a word (killed from outside, or for want of "
            f"memory) and the others have been ended; the same command goes on from what is saved; logs: {logs}"
        )
    raise RankLostError(f"{min(reports.values(), key=lambda r: float(r['time']))['message']}; logs: {logs}")


_ERRORS = {kind.exit_code: kind for kind in (InputError, NodeFaultError, NumericError)}


# ---- a rank ------------------------------------------------------------------------------------------------------


def _supervised_rank(body: Body, logs: str, reports: str) -> None:
    """A rank that the supervisor started."""
    for number in STOP_SIGNALS:  # until the body catches them itself, there is nothing to save
        signal.signal(number, lambda got, frame: os._exit(STOPPED))
    if TOLD in os.environ:
        os._exit(STOPPED)
    quiet_libraries()
    code = be_rank(body, Path(logs), Path(reports))
    if code:
        sys.stderr.flush()
        os._exit(code)  # past multiprocessing, which would turn any code into 1


def be_rank(body: Body, logs: Path, reports: Path | None = None) -> int:
    """Run the body as this process's rank, its output going to `logs/rank_N.log`; returns its exit code.

    A failure is reported to the supervisor through a file in `reports`, or, without one, in a line on the terminal.
    """
    rank = (Rendezvous.from_environment() or Rendezvous()).rank
    terminal = Terminal(sys.stdout, sys.stderr)

    def report(error: Exception) -> int:
        failure = _failure(error, logs)
        if reports is None:
            _tell(failure, error, rank, terminal.err)
        else:
            (reports / f"{rank}.json").write_text(json.dumps(dataclasses.asdict(failure)), encoding="utf-8")
        return failure.code

    gc.freeze()  # the libraries' objects stay: DeepSpeed's set-up collects garbage a dozen times, half a second each
    try:
        terminal = _redirect_output(logs / f"rank_{rank}.log")
        return body(dataclasses.replace(terminal, fail=lambda error: os._exit(report(error))))
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk takes no traceback, and its report must still be made
            traceback.print_exc()
        return report(error)


def _redirect_output(path: Path) -> Terminal:
    """Send whatever this process prints, libraries included, to its log."""
    out, err = (os.fdopen(os.dup(stream.fileno()), "w", buffering=1) for stream in (sys.stdout, sys.stderr))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (sys.stdout, sys.stderr):
        standard.flush()
        os.dup2(log, standard.fileno())
    os.close(log)
    return Terminal(out, err)


@dataclasses.dataclass(frozen=True)
class _Failure:
    """Why a rank failed."""

    time: float
    code: int
    consequence: bool
    """Whether it only says that another rank has gone."""
    message: str


def _failure(error: Exception, logs: Path) -> _Failure:
    code = error.exit_code if isinstance(error, MegatronNlgError) else 1
    message = str(error) if isinstance(error, MegatronNlgError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"{error.filename or logs.parent}: {os.strerror(error.errno)}; free some space and start again"
    if any(sign in message for sign in ("CUDA error", "uncorrectable ECC")):
        code = NodeFaultError.exit_code
    return _Failure(time.time(), code, _is_consequence(error), message)


def _tell(failure: _Failure, error: Exception, rank: int, terminal: IO[str]) -> None:
    """Say on the terminal why this rank failed, unless that is a mere consequence."""
    if isinstance(error, MegatronNlgError):
        yield_to_main(rank)
    if rank == 0 or not failure.consequence:
        print(f"rank {rank}: {failure.message}", file=terminal, flush=True)


def _is_consequence(error: Exception) -> bool:
    """Whether the error only says that another rank has gone."""
    text = str(error)
    signs: Sequence[str] = ("Connection closed by peer", "Connection reset", "Broken pipe", "gloo", "NCCL")
    return not isinstance(error, MegatronNlgError) and any(sign in text for sign in signs)
