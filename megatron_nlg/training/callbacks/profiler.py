"""torch.profiler over the steps of log.profile_steps, as a Chrome trace in `logs/` of the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.training.callbacks.base import Callback, Run

if TYPE_CHECKING:
    from torch.profiler import profile


class Profiler(Callback):
    """Records on rank 0 from the start of the first step to the end of the last; open the trace in Perfetto."""

    def __init__(self) -> None:
        self._profile: profile | None = None
        self._first = 0

    def on_step_start(self, run: Run, step: int) -> None:
        """Begin, or end, where the range does. A run that resumes inside the range records what is left of it."""
        if not run.is_main or run.config.log.profile_steps is None:
            return
        first, last = run.config.log.profile_steps
        if self._profile and step > last:
            self._finish(run, last)
        elif self._profile is None and first <= step <= last:
            from torch.profiler import profile

            self._first = step
            self._profile = profile()
            self._profile.start()

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Write what was recorded when training ends inside the range."""
        if self._profile:
            self._finish(run, step)

    def _finish(self, run: Run, last: int) -> None:
        assert self._profile
        self._profile.stop()
        path = trace_path(run.folder, self._first, last)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        self._profile.export_chrome_trace(str(temporary))
        temporary.replace(path)
        self._profile = None


def trace_path(folder: Path, first: int, last: int) -> Path:
    """Where the trace of these steps goes."""
    return folder / "logs" / f"trace_steps_{first}-{last}.json"
