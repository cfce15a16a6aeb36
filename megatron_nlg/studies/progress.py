"""How the runs of a study get on: a bar on a terminal, a line a run elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from data_prep.report.text import duration_text
from megatron_nlg.studies.runs import Outcome, Run, read_outcome


class Counting:
    """Says how many runs have ended. Draws without a thread: runs are forked from this process."""

    def __init__(self, runs: Sequence[Run]):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        before = sum(1 for run in runs if (outcome := read_outcome(run.folder)) and outcome.settled)
        if before:
            print(f"{before} of {len(runs)} runs have ended before", file=sys.stderr)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)
        self.task = self.bar.add_task("", total=len(runs), completed=before)
        self.done, self.total = before, len(runs)

    def __enter__(self) -> Counting:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def ended(self, run: Run, outcome: Outcome) -> None:
        """A run has ended."""
        self.done += 1
        said = {0: "done", 3: "stopped", 5: "went wrong numerically"}.get(outcome.code)
        said = said or f"failed: {outcome.error}"
        if self.bar.disable:
            where = f"{self.done} of {self.total}"
            print(f"{where}: {run.name}: {said} ({duration_text(outcome.seconds)})", file=sys.stderr, flush=True)
        else:
            self.bar.update(self.task, completed=self.done, description=f"{run.name}: {said}", refresh=True)
