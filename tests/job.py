"""The command as a user types it: a process, all that it starts, and what it says."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from tests.launcher import Forked

MARK = "TEST_JOB"
PATIENCE = 150
"""Seconds for what takes a few on an idle machine."""


class Job:
    """A python module started in a session of its own, as a terminal would. All its descendants carry its mark.

    With `fork`, its process has the libraries from the beginning, and what is run is the module's main(arguments).
    With `stdin`, it reads what is written to `process.stdin`.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        env: Mapping[str, str] | None = None,
        fork: bool = False,
        stdin: bool = False,
    ):
        self.mark = uuid.uuid4().hex
        self.process: Forked | subprocess.Popen[str]
        if fork:
            self.process = Forked(module, arguments, {**os.environ, **(env or {})}, stdin)
            return
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE if stdin else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {}), MARK: self.mark},
        )

    def wait(self, timeout: float = PATIENCE) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode is not None
        return self.process.returncode, out, err

    def alive(self) -> list[psutil.Process]:
        """Processes of this job that have not ended, found by their environment and not by their parents."""
        found = []
        if isinstance(self.process, Forked):
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(self.process.minder).children(recursive=True)
            return [process for process in found if _lives(process)]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def ranks(self) -> list[int]:
        """Process ids of the ranks."""
        children = psutil.Process(self.process.pid).children()
        return [child.pid for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def kill(self) -> None:
        """End whatever is left."""
        for process in self.alive():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


def can_fork() -> bool:
    """Whether commands can be forked: CUDA would not survive it."""
    from megatron_nlg.parallel.device import local_device_count

    return local_device_count() is None


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextlib.contextmanager
def command(
    *arguments: str | Path, env: Mapping[str, str] | None = None, fresh: bool = False, stdin: bool = False
) -> Iterator[Job]:
    """`megatron-nlg arguments…`; nothing of it is left afterwards. `fresh`: with a Python of its own."""
    words = [str(argument) for argument in arguments]
    job = Job("megatron_nlg.cli", words, env, fork=not fresh and can_fork(), stdin=stdin)
    try:
        yield job
    finally:
        job.kill()


def until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> float:
    """Wait until the condition holds; returns the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout, f"{what}: not within {timeout} s"
        time.sleep(0.05)
    return time.monotonic() - start
