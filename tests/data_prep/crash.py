"""Runs `megatron-nlg` and dies, as by kill -9, at the n-th rename: main([N, ARGUMENTS…]), in a process of its own.

Every output of data preparation becomes visible by a rename, so dying before each of them covers every state that a
kill can leave behind. With N = 0 it does not die.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from megatron_nlg import cli
from tests.job import Job, can_fork

_replace, _rename = Path.replace, Path.rename


def _die_at(number: int) -> None:
    left = number

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(137)

    def replace(self: Path, target: Path) -> Path:
        count()
        return _replace(self, target)

    def rename(self: Path, target: Path) -> Path:
        count()
        return _rename(self, target)

    Path.replace = replace  # type: ignore[assignment,method-assign]
    Path.rename = rename  # type: ignore[assignment,method-assign]


def main(arguments: Sequence[str]) -> int:
    """The command's exit code."""
    _die_at(int(arguments[0]))
    return cli.main(arguments[1:])


def prep(number: int, *words: object) -> int:
    """Exit code of a `prep` that dies at that rename."""
    return at_rename(number, "prep", *words)


def at_rename(number: int, *words: object) -> int:
    """Exit code of a command that dies there."""
    job = Job("tests.data_prep.crash", [str(number), *map(str, words)], fork=can_fork())
    try:
        return job.wait()[0]
    finally:
        job.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
