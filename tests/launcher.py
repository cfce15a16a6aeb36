"""Modules run in a process forked from one that has imported the libraries: importing them takes seconds,
a fork milliseconds.

A launcher forks a minder a command, and the minder the command itself. The minder adopts whatever the command leaves
behind (it is a subreaper), so that a test finds every process of a command below it, and lives until all have ended.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LIMIT = 1 << 20
"""Bytes of a request: arguments and environment."""
PRELOADED = (
    "awkward",
    "gigatoken",
    "pandas",
    "data_prep.pipeline",
    "megatron_nlg.generation.generator",
    "megatron_nlg.training.trainer",
)
"""What the commands would import, by themselves or through pyarrow and gigatoken."""


class Forked:
    """A command's process; as much of subprocess.Popen as the tests need."""

    def __init__(self, module: str, arguments: Sequence[str], env: Mapping[str, str], stdin: bool = False):
        """`stdin`: whether it reads from a pipe, and not from nothing."""
        self.args = list(arguments)
        self.returncode: int | None = None
        (out, out_there), (err, err_there), (report, report_there) = (os.pipe() for _ in range(3))
        in_there, to = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
        request = {"module": module, "arguments": self.args, "env": dict(env), "folder": str(Path.cwd())}
        theirs = [in_there, out_there, err_there, report_there]
        socket.send_fds(_launcher(), [json.dumps(request).encode()], theirs)
        for there in theirs:
            os.close(there)
        self.stdin = None if to is None else os.fdopen(to, "w", encoding="utf-8")
        self.stdout, self.stderr = os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8")
        self._report = os.fdopen(report, "rb", buffering=0)
        self.minder, self.pid = map(int, self._report.readline().split())

    def communicate(self, timeout: float) -> tuple[str, str]:
        """All of stdout and stderr, when the process has ended and nobody holds them any more; stdin is closed."""
        if self.stdin:
            self.stdin.close()
        said: dict[str, bytes] = {"out": b"", "err": b"", "report": b""}
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for file, name in ((self.stdout, "out"), (self.stderr, "err"), (self._report, "report")):
                selector.register(file, selectors.EVENT_READ, name)
            while selector.get_map():
                ready = selector.select(max(0.0, end - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired(self.args, timeout, said["out"], said["err"])
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    said[key.data] += data
                    if not data or key.data == "report":
                        selector.unregister(key.fileobj)
        self._end(said["report"])
        return said["out"].decode(), said["err"].decode()

    def wait(self) -> int | None:
        """Wait for the process itself."""
        self._end(self._report.readline())
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if select.select([self._report], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To the process itself."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def _end(self, reported: bytes) -> None:
        if self.returncode is None:
            self.returncode = int(reported) if reported else -signal.SIGKILL  # a minder that was killed has not said


@lru_cache(maxsize=1)
def _launcher() -> socket.socket:
    """The launcher of this test process, started at its first command; it ends with it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen([sys.executable, "-m", "tests.launcher"], stdin=there)
    there.close()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LIMIT)
    assert here.recv(1) == b"r", "the launcher has not started"

    def end() -> None:
        here.close()
        process.wait()

    atexit.register(end)
    return here


# ---- the launcher's own process ------------------------------------------------------------------------------------


def main() -> int:
    """Import, then fork a minder a request until the test process is gone. In a command: its exit code."""
    from megatron_nlg.parallel.supervisor import prepare_fork, quiet_libraries

    quiet_libraries()
    prepare_fork()
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # in the commands too: collecting garbage among the libraries' objects takes half a second each time
    requests = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for minders
    requests.send(b"r")
    while True:
        message, files, *_ = socket.recv_fds(requests, LIMIT, 4)
        if not message:
            return 0
        if os.fork() == 0:
            requests.close()
            return _mind(json.loads(message), *files)
        for file in files:
            os.close(file)


def _mind(request: dict[str, object], stdin: int, out: int, err: int, report: int) -> int:
    """Fork the command and say its number, its exit code, and by ending that nothing of it is left."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()  # signals of a terminal are not for it
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        os.close(report)
        return _command(request, stdin, out, err)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    for file in (stdin, out, err):
        os.close(file)
    os.write(report, f"{os.getpid()} {child}\n".encode())
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            os._exit(0)
        if ended == child:
            os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _command(request: dict[str, object], stdin: int, out: int, err: int) -> int:
    """In the command's process: what a terminal would have set up, then the module's main(arguments)."""
    os.setsid()
    for source, stream in ((stdin, 0), (out, 1), (err, 2)):
        os.dup2(source, stream)
        os.close(source)
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[arg-type]
    os.chdir(str(request["folder"]))
    arguments = [str(argument) for argument in request["arguments"]]  # type: ignore[attr-defined]
    sys.argv = [str(request["module"]), *arguments]
    return int(importlib.import_module(sys.argv[0]).main(arguments))


if __name__ == "__main__":
    sys.exit(main())
