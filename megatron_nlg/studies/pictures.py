"""Pictures of the studies: on a page, and as files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.report.drawing import Drawing, drawing


@contextmanager
def picture(
    folder: Path, name: str, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> Iterator[Drawing]:
    """Axes [rows, columns] in the project's look; drawn, they are `name`.png and `name`.svg in the folder too."""
    with drawing(name, height, rows, columns, folder, **options) as drawn:
        yield drawn
