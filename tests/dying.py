"""Runs `megatron-nlg`, whose writer of rows dies, as by kill -9, when it has written N of them: main([N, ARGUMENTS…]).

Resumable commands write all their rows by one function, so that this is a death at a known row, however fast they are.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_nlg import cli
from megatron_nlg.generation import rows
from tests.job import Job, can_fork


def main(arguments: Sequence[str]) -> int:
    """The command's exit code, where it lives that long."""
    left, append_row = int(arguments[0]), rows.append_row

    def append_and_die(path: Path, row: dict[str, Any]) -> None:
        nonlocal left
        append_row(path, row)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for module in list(sys.modules.values()):  # those that have imported it, and those that will from `rows`
        if getattr(module, "append_row", None) is append_row:
            module.append_row = append_and_die  # type: ignore[attr-defined]
    return cli.main(arguments[1:])


def at_row(number: int, *arguments: str | Path) -> None:
    """Run a command until its writer has died; nothing of it is left afterwards."""
    job = Job(__name__, [str(number), *map(str, arguments)], fork=can_fork())
    try:
        code, out, err = job.wait()
    finally:
        job.kill()
    assert code, f"it ended by itself: {out} {err}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
