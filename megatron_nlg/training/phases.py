"""What this rank is doing right now, and for how long it has done what: a few numbers, told by trainer and engine."""

from __future__ import annotations

import time


class Phases:
    """The phase of the step, seconds in each phase so far, and a count that grows as long as training moves.

    Seconds are the host's: on a GPU, where kernels run behind, they are near the device's only over many steps.
    """

    def __init__(self) -> None:
        self.step = 0
        self.name = "start"
        self.beats = 0
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def enter(self, name: str) -> None:
        """Begin a phase; the one before it ends."""
        now = time.perf_counter()
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + now - self._since
        self.name, self._since = name, now
        self.beats += 1

    def beat(self) -> None:
        """Progress inside a phase."""
        self.beats += 1
