"""Runs `megatron-nlg` and dies, as by kill -9, at the n-th rename: `python -m tests.data_prep.crash N ARGUMENTS…`.

Every output of data preparation becomes visible by a rename, so dying before each of them covers every state that a
kill can leave behind. With N = 0 it does not die.
"""

import os
import sys
from pathlib import Path

from megatron_nlg.cli import main

_replace, _rename = Path.replace, Path.rename


def die_at(number: int) -> None:
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


if __name__ == "__main__":
    die_at(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
