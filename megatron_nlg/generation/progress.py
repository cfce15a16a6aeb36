"""How far a job over many texts is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron_nlg.parallel.context import ParallelContext
    from megatron_nlg.parallel.supervisor import Terminal


@contextmanager
def progress(
    title: str, total: int, done: int, context: ParallelContext, terminal: Terminal
) -> Iterator[Callable[[], None]]:
    """A bar on the first rank's terminal; yields what advances it by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=terminal.err, highlight=False)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = context.is_main and console.is_terminal
    with Progress(*columns, console=console, disable=not shown) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.update(task, advance=1)
