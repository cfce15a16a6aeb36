"""The errors a user is meant to read: each one line or a list of lines, with an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MegatronNlgError(Exception):
    """Something failed that was not the user's input: a full disk, a dead rank. Exit code 1."""

    exit_code = 1


class InputError(MegatronNlgError):
    """Bad input: the message names the file, line or key, the value, and the mend. Exit code 2."""

    exit_code = 2


class NodeFaultError(MegatronNlgError):
    """A rank hangs or computes wrongly: its node needs a look. Exit code 4; the same command goes on elsewhere."""

    exit_code = 4


class NumericError(MegatronNlgError):
    """Training goes wrong numerically, again after rolling back: starting it again does not help. Exit code 5."""

    exit_code = 5


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a config: the dotted `key`, what is wrong with its value, and how to mend it."""

    key: str
    message: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" + (f"; {self.mend}" if self.mend else "")


class ConfigError(InputError):
    """All problems of a config at once, and hints that are no single key's."""

    def __init__(self, problems: Sequence[Problem], source: str = "config", hints: Sequence[str] = ()):
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{source}: {count}\n" + "\n".join(f"  {p}" for p in (*self.problems, *hints)))
