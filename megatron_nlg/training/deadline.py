"""When to save and leave so that a job ends within its time limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

MARGIN = 1.5
"""Steps and checkpoints may take this much longer than the longest so far."""
LEAVING_SECONDS = 2.0
"""What the end of a process takes."""


class Deadline:
    """A point in time, by `clock`, and how long the longest step and the longest checkpoint have taken."""

    def __init__(self, at: float | None = None, clock: Callable[[], float] = time.time):
        self.at = math.inf if at is None else at
        self._clock = clock
        self._last: float | None = None
        self._saving_since: float | None = None
        self._step = self._save = 0.0

    def step_is_done(self) -> bool:
        """Call after every step; whether another one may end too late, with the checkpoint that must follow it."""
        now = self._clock()
        if self._last is not None:
            self._step = max(self._step, now - self._last)
        self._last = now
        return now + MARGIN * (self._step + self._save) + LEAVING_SECONDS > self.at

    def save_begins(self) -> None:
        """A checkpoint is being written."""
        self._saving_since = self._clock()

    def save_is_done(self) -> None:
        """It is complete."""
        if self._saving_since is not None:
            self._save = max(self._save, self._clock() - self._saving_since)
            self._saving_since = None
