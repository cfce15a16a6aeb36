"""torch.profiler and the CUDA allocator's history, by config or on demand, in `logs/` of the run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.training.callbacks.base import Callback, Run

if TYPE_CHECKING:
    from torch.profiler import profile

STEPS = 3
"""Steps that are recorded on demand, where the file that asks does not say how many."""


class Profiler(Callback):
    """Records on rank 0, whole steps; open the trace in Perfetto.

    Steps are those of log.profile_steps, and the ones that follow when a file `profile` appears in the run folder:
    three, or as many as it says. The file is removed when they begin.
    """

    def __init__(self) -> None:
        self._profile: profile | None = None
        self._first = self._last = 0

    def on_step_start(self, run: Run, step: int) -> None:
        """Begin, or end, where a range does. A run that resumes inside one records what is left of it."""
        if not run.is_main:
            return
        if self._profile and step > self._last:
            self._finish(run, self._last)
        if self._profile is None and (last := self._wanted(run, step)):
            from torch.profiler import profile

            self._first, self._last = step, last
            self._profile = profile()
            self._profile.start()

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Write what was recorded when training ends inside the range."""
        if self._profile:
            self._finish(run, step)

    def _wanted(self, run: Run, step: int) -> int | None:
        """Last step of a range that begins, or goes on, with this step."""
        first, last = run.config.log.profile_steps or (0, 0)
        if first <= step <= last:
            return last
        steps = requested(run.folder / "profile")
        return step + steps - 1 if steps else None

    def _finish(self, run: Run, last: int) -> None:
        assert self._profile
        self._profile.stop()
        path = trace_path(run.folder, self._first, last)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        self._profile.export_chrome_trace(str(temporary))
        temporary.replace(path)
        self._profile = None


class MemorySnapshot(Callback):
    """Rank 0's CUDA allocations over the steps that follow when a file `memory_snapshot` appears in the run folder.

    The snapshot is a pickle for https://pytorch.org/memory_viz. On the CPU, where there is no such history, it says so.
    """

    def __init__(self) -> None:
        self._range: tuple[int, int] | None = None

    def on_step_start(self, run: Run, step: int) -> None:
        """Begin, or end, as asked."""
        if not run.is_main:
            return
        if self._range and step > self._range[1]:
            self._finish(run, self._range[1])
        if self._range is None and (steps := requested(run.folder / "memory_snapshot")):
            import torch

            if not torch.cuda.is_available():
                print(
                    "memory_snapshot: only CUDA's allocator keeps a history; on the CPU a file `profile` in the run "
                    "folder records operators, and events.jsonl has the peak memory",
                    file=sys.stderr,
                )
                return
            torch.cuda.memory._record_memory_history()
            self._range = (step, step + steps - 1)

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Write what was recorded when training ends before the last step, also by an error (out of memory)."""
        if self._range:
            self._finish(run, step)

    def _finish(self, run: Run, last: int) -> None:
        import torch

        assert self._range
        path = run.folder / "logs" / f"memory_steps_{self._range[0]}-{last}.pickle"
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        torch.cuda.memory._dump_snapshot(str(temporary))  # type: ignore[no-untyped-call]
        torch.cuda.memory._record_memory_history(enabled=None)
        temporary.replace(path)
        self._range = None


def requested(path: Path) -> int | None:
    """Steps that a file asks for, None when it is not there. It is removed, so that it asks once."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        path.unlink()
    except OSError:  # absent, a folder, or not ours: nothing that training should end for
        return None
    return int(text) if text.isdecimal() and int(text) else STEPS


def trace_path(folder: Path, first: int, last: int) -> Path:
    """Where the trace of these steps goes."""
    return folder / "logs" / f"trace_steps_{first}-{last}.json"
