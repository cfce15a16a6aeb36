"""`megatron-nlg train`: starts local ranks by torchrun, or is one rank of those that torchrun or srun started."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.schema import RunConfig

PREEMPTED = 3
"""Exit code of a job that a signal asked to stop: its state is saved, the same command goes on."""
SHUTDOWN_SECONDS = 5
"""After a rank has died, the others get this long to leave by themselves."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder; an existing run goes on")
    parser.add_argument("--nproc", type=int, metavar="N", help="local ranks to start (default: one a GPU, else 1)")
    parser.add_argument("--master-port", type=int, metavar="PORT", help="port of the rendezvous (default: a free one)")
    parser.epilog = "exit codes: 0 done, 1 failed, 2 bad input, 3 stopped by a signal with the state saved"


def run(args: argparse.Namespace) -> int:
    """Train. Returns the exit code of the job."""
    warnings.filterwarnings("ignore", module="megatron|deepspeed|torch")
    from megatron_nlg.config.validate import load_config

    config = load_config(args.config, args.overrides)
    if _is_rank():
        return _run_rank(config, args.out, supervised=False)
    from megatron_nlg.parallel.device import local_device_count

    gpus = local_device_count()
    ranks = args.nproc or gpus or 1
    if ranks < 1 or (gpus is not None and ranks > gpus):
        raise InputError(f"--nproc {ranks}: this machine has {gpus} GPUs; start one rank a GPU at most")
    _check_before_start(config, args.out, ranks, args.master_port)
    return _supervise(config, args.out, ranks, args.master_port)


def _is_rank() -> bool:
    from megatron_nlg.parallel.context import Rendezvous

    return Rendezvous.from_environment() is not None


def _check_before_start(config: RunConfig, folder: Path, ranks: int, port: int | None) -> None:
    """Everything that can be known to fail before a process starts."""
    from megatron_nlg.config.validate import data_parallel_size
    from megatron_nlg.data.datasets import make_plan

    data_parallel_size(config, ranks)
    _make_folder(folder)
    make_plan(config, folder)
    if port is not None:
        with socket.socket() as probe:
            try:
                probe.bind(("localhost", port))
            except OSError as error:
                mend = "choose a free one, or leave --master-port out"
                raise InputError(f"--master-port {port}: {os.strerror(error.errno or 0)}; {mend}") from None


def _make_folder(folder: Path) -> None:
    """The run folder with its logs, or an InputError that says why not."""
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"--out {folder}: can't be written: {os.strerror(error.errno or 0)}; choose another folder"
        ) from None


# ---- the supervisor ----------------------------------------------------------------------------------------------


def _supervise(config: RunConfig, folder: Path, ranks: int, port: int | None) -> int:
    """Start the ranks by torch's elastic agent and wait; a failure is said once, by its cause."""
    import dataclasses

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from megatron_nlg.parallel.device import local_device_count

    on_cpu = local_device_count() is None
    if on_cpu:
        # Forked ranks share what the supervisor has imported: seconds of start-up a rank are saved.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from megatron_nlg.parallel.device import select_device

        select_device()
        import megatron_nlg.training.trainer  # noqa: F401
    for library in ("torch.distributed.elastic", "torch.multiprocessing"):  # its failures are said below, once
        logging.getLogger(library).setLevel(logging.CRITICAL)
    for path in (folder / "logs").glob("rank_*.error"):
        path.unlink()
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SHUTDOWN_SECONDS)
    shutdown: dict[str, Any] = {"shutdown_timeout": SHUTDOWN_SECONDS}
    if "shutdown_timeout" not in {field.name for field in dataclasses.fields(LaunchConfig)}:
        shutdown = {}  # torch 2.11 reads the environment variable only
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=f"{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint=f"localhost:{port or 0}",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork" if on_cpu else "spawn",
        signals_to_handle="SIGHUP,SIGQUIT",
        **shutdown,
    )
    _forward_signals()
    try:
        elastic_launch(launch, _rank_main)(config, str(folder))
    except ChildFailedError as error:
        return _explain(error, folder, ranks)
    return 0


def _forward_signals() -> None:
    """Signals to the supervisor are for the ranks: they save and leave. A third Ctrl-C ends them at once."""
    received: list[int] = []

    def forward(number: int, frame: Any) -> None:
        received.append(number)
        force = received.count(signal.SIGINT) >= 3
        for child in multiprocessing.active_children():
            if child.pid:
                os.kill(child.pid, signal.SIGKILL if force else number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, forward)


def _explain(error: Any, folder: Path, ranks: int) -> int:
    """Exit code of a failed job; raises the ranks' own error, the cause before its consequences."""
    if {failure.exitcode for failure in error.failures.values()} == {PREEMPTED}:
        return PREEMPTED
    logs = folder / "logs"
    reports = {
        rank: json.loads(path.read_text(encoding="utf-8"))
        for rank in range(ranks)
        if (path := logs / f"rank_{rank}.error").exists()
    }
    causes = [report for report in reports.values() if not report["consequence"]]
    if causes:
        report = min(causes, key=lambda r: (-r["code"], r["time"]))
        raise (InputError if report["code"] == InputError.exit_code else MegatronNlgError)(report["message"])
    silent = [rank for rank in range(ranks) if rank not in reports]
    if silent:
        raise MegatronNlgError(
            f"rank {', '.join(map(str, silent))} died without a word (killed from outside, or for want of memory) and "
            f"the others have been ended; the same command goes on from the last checkpoint; logs: {logs}"
        )
    raise MegatronNlgError(f"{min(reports.values(), key=lambda r: float(r['time']))['message']}; logs: {logs}")


# ---- a rank ------------------------------------------------------------------------------------------------------


def _rank_main(config: RunConfig, folder: str) -> None:
    """A rank that the supervisor started."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):  # until training starts there is nothing to save
        signal.signal(number, lambda got, frame: os._exit(PREEMPTED))
    warnings.filterwarnings("ignore", module="megatron|deepspeed|torch")
    code = _run_rank(config, Path(folder), supervised=True)
    if code:
        sys.stderr.flush()
        os._exit(code)  # past multiprocessing, which would turn any code into 1


def _run_rank(config: RunConfig, folder: Path, supervised: bool) -> int:
    """Train as one rank; returns 0 or PREEMPTED, or the error's code after reporting it."""
    from megatron_nlg.parallel.context import Rendezvous

    who = Rendezvous.from_environment() or Rendezvous()
    terminal: IO[str] = sys.stderr
    try:
        _make_folder(folder)
        terminal = _redirect_output(folder / "logs" / f"rank_{who.rank}.log")
        from megatron_nlg.training.trainer import Trainer

        trainer = Trainer(config, folder, terminal)
        status = trainer.train()
        trainer.close()
    except Exception as error:
        traceback.print_exc()
        return _report(error, who.rank, folder, None if supervised else terminal)
    return PREEMPTED if status == "signal" else 0


def _redirect_output(path: Path) -> IO[str]:
    """Send whatever this process prints, libraries included, to its log; returns the terminal for our own lines."""
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (sys.stdout, sys.stderr):
        standard.flush()
        os.dup2(log, standard.fileno())
    os.close(log)
    return terminal


def _report(error: Exception, rank: int, folder: Path, terminal: IO[str] | None) -> int:
    """Say why this rank failed: to the supervisor through a file, or on the terminal."""
    code = error.exit_code if isinstance(error, MegatronNlgError) else 1
    consequence = _is_consequence(error)
    message = str(error) if isinstance(error, MegatronNlgError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"{error.filename or folder}: {os.strerror(error.errno)}; free some space and start again"
    if terminal is None:
        report = {"time": time.time(), "code": code, "consequence": consequence, "message": message}
        path = folder / "logs" / f"rank_{rank}.error"
        path.write_text(json.dumps(report), encoding="utf-8")
    elif rank == 0 or not consequence:
        print(f"megatron-nlg train: rank {rank}: {message}", file=terminal, flush=True)
    return code


def _is_consequence(error: Exception) -> bool:
    """Whether the error only says that another rank has gone."""
    text = str(error)
    signs: Sequence[str] = ("Connection closed by peer", "Connection reset", "Broken pipe", "gloo", "NCCL")
    return not isinstance(error, MegatronNlgError) and any(sign in text for sign in signs)
