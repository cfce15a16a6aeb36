"""metrics.jsonl and events.jsonl in the run folder: one JSON object a line, on disk as soon as it is known."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.training.callbacks.base import Callback, Run, StepMetrics, ValidationRow
from megatron_nlg.training.throughput import Throughput

METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
STATISTICS = "statistics.jsonl"
"""What training/statistics.py writes."""


class MetricsFile(Callback):
    """Writes a row a log interval, a row a validated source, and the events of the run. Rank 0 only.

    Steps that are taken again after a resume replace those of before it, so that the curve goes on as one.
    """

    def __init__(self) -> None:
        self._metrics: IO[str] | None = None
        self._events: IO[str] | None = None

    def on_start(self, run: Run) -> None:
        """Cut off what lies beyond the checkpoint, and note the start or resume with its layout."""
        if not run.is_main:
            return
        keep_until(run.folder / METRICS, run.start_step)
        resumed = bool(read_rows(run.folder / EVENTS))
        drop_half_line(run.folder / EVENTS)
        self._metrics = (run.folder / METRICS).open("a", encoding="utf-8")
        self._events = (run.folder / EVENTS).open("a", encoding="utf-8")
        self._event(
            {
                "event": "resume" if resumed else "start",
                "step": run.start_step,
                "layout": asdict(run.layout),
                "total_steps": run.total_steps,
                "device": run.device_name,
                "throughput": Throughput(run.config, run.layout.world_size, run.device_name).header(),
            }
        )

    def on_step(self, run: Run, metrics: StepMetrics) -> None:
        """Append the row of a step."""
        _append(self._metrics, asdict(metrics))

    def on_validation(self, run: Run, rows: Sequence[ValidationRow]) -> None:
        """Append one row a source."""
        for row in rows:
            said = {key: value for key, value in asdict(row).items() if value is not None}
            _append(self._metrics, {"split": "valid", **said})

    def on_checkpoint(self, run: Run, step: int, path: Path) -> None:
        """Note a complete checkpoint, by its path inside the run folder."""
        inside = path.relative_to(run.folder) if path.is_relative_to(run.folder) else path
        self._event({"event": "checkpoint", "step": step, "path": str(inside)})

    def on_rollback(self, run: Run, step: int) -> None:
        """Cut off the rows of steps that are taken again."""
        if self._metrics:
            self._metrics.close()
            keep_until(run.folder / METRICS, step)
            self._metrics = (run.folder / METRICS).open("a", encoding="utf-8")

    def on_event(self, run: Run, event: Mapping[str, Any]) -> None:
        """Note anything else."""
        self._event(event)

    def on_end(self, run: Run, step: int, status: str) -> None:
        """Note how the run ended, and close the files."""
        self._event({"event": "end", "step": step, "status": status})
        for file in (self._metrics, self._events):
            if file:
                file.close()
        self._metrics = self._events = None

    def _event(self, event: Mapping[str, Any]) -> None:
        _append(self._events, {**event, "time": round(time.time(), 3)})


def _append(file: IO[str] | None, row: Mapping[str, Any]) -> None:
    if file:
        # NaN and infinity are not JSON; null says that there was no number.
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        file.write(json.dumps(finite, ensure_ascii=False) + "\n")
        file.flush()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; [] when there is none. Raises InputError with file and line for a broken line.

    A last line without its newline is what a killed run was writing: it is left out.
    """
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return rows
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError:  # not JSON, or not UTF-8
            row = None
        if not isinstance(row, dict):
            shown = line[:60].decode("utf-8", "backslashreplace")
            raise InputError(f"{path}:{number}: not a JSON object: {shown!r}; remove or mend the line")
        rows.append(row)
    return rows


def keep_until(path: Path, step: int) -> None:
    """Keep the rows of steps up to `step`, in one atomic replacement. Raises InputError for a row without a step."""
    rows = read_rows(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("step"), int):
            raise InputError(f"{path}:{number}: a whole number is expected as step, not {row.get('step')!r}")
    kept = [row for row in rows if row["step"] <= step]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    if path.exists() and path.read_bytes() != text.encode():
        replace_text(path, text)


def drop_half_line(path: Path) -> None:
    """Remove a last line that a killed run did not finish."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n") and data:
        replace_text(path, data[: data.rfind(b"\n") + 1].decode("utf-8"))


def replace_text(path: Path, text: str) -> None:
    """Put a text file in place at once: a temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
