"""How far a study has come, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def bar(title: str, total: int, stream: IO[str], shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Yields what is to be told how much more is done; draws nothing where `stream` is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=stream, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as progress:
        task = progress.add_task(title.replace("[", r"\["), total=total)
        yield lambda done: progress.update(task, advance=done)
