"""What the runs of a ladder tell: a row a rung."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from megatron_nlg.studies.ladder.rungs import Step
from megatron_nlg.studies.runs import read_outcome
from megatron_nlg.training.callbacks.metrics import EVENTS, METRICS, read_rows

Tree = dict[str, Any]
COLUMNS = (
    "rung",
    "title",
    "ranks",
    "tokens_per_second",
    "step_ms",
    "quartile_1_ms",
    "quartile_3_ms",
    "steps",
    "peak_memory_mib",
    "mfu",
    "over_the_rung_before",
    "over_the_first",
    "loss",
    "largest_loss_difference",
    "left_out",
)


@dataclass(frozen=True)
class Measured:
    """A rung's runs."""

    losses: Sequence[float | None]
    """Of the first round's steps."""
    seconds: Sequence[float]
    """Of the timed steps of all rounds."""
    tokens: int
    """In a step."""
    mfu: float | None
    peak_mib: int
    device: str
    kernels: Mapping[str, str]


def measured(folders: Sequence[Path], warmup: int) -> Measured:
    """Read a rung's rounds; the first `warmup` steps of each are not timed."""
    seconds: list[float] = []
    shares: list[float] = []
    peaks, rows = [], []
    for folder in folders:
        rows = [row for row in read_rows(folder / METRICS) if "split" not in row]
        seconds += [row["step_seconds"] for row in rows[warmup:]]
        shares += [row["mfu"] for row in rows[warmup:] if row["mfu"] is not None]
        events = {event["event"]: event for event in read_rows(folder / EVENTS)}
        start, peak = events["start"], events["peak memory"]
        # On the CPU, what the process held before is its libraries; on a GPU it is nothing.
        peaks.append(max(most - before for most, before in zip(peak["mib"], peak["before_mib"], strict=True)))
    first = [row for row in read_rows(folders[0] / METRICS) if "split" not in row]
    kernels = {key: value for key, value in events["kernels"].items() if key not in ("event", "step", "time")}
    return Measured(
        losses=[row["loss"] for row in first],
        seconds=seconds,
        tokens=rows[0]["tokens"],
        mfu=median(shares) if shares else None,
        peak_mib=max(peaks),
        device=str(start["device"]),
        kernels=kernels,
    )


def rows_of(steps: Sequence[Step], folders: Mapping[str, Sequence[Path]], warmup: int) -> list[Tree]:
    """A row a rung, from the lowest up, with its ratios; a rung without figures says why."""
    rows: list[Tree] = []
    first: Measured | None = None
    rates: list[float] = []
    for step in steps:
        row: Tree = {"rung": step.rung.name, "title": step.title, "overrides": list(step.overrides)}
        row |= {"ranks": step.ranks, "published_tokens_per_second": step.rung.published}
        rows.append(row)
        why = step.why_not or failure(folders[step.rung.name])
        if why:
            row["left_out"] = why
            continue
        found = measured(folders[step.rung.name], warmup)
        first = first or found
        row |= figures(found, first)
        rates.append(row["tokens_per_second"])
        row["over_the_rung_before"] = round(rates[-1] / rates[-2], 3) if len(rates) > 1 else None
        row["over_the_first"] = round(rates[-1] / rates[0], 3)
    return rows


def figures(found: Measured, first: Measured) -> Tree:
    """Figures of a rung, and how far its losses are from the first one's."""
    middle = median(found.seconds)
    low, _, high = quantiles(found.seconds, n=4) if len(found.seconds) > 1 else [middle] * 3
    pairs = [(a, b) for a, b in zip(found.losses, first.losses, strict=False) if a is not None and b is not None]
    return {
        "tokens_per_second": round(found.tokens / middle, 1),
        "step_ms": round(middle * 1e3, 2),
        "quartile_1_ms": round(low * 1e3, 2),
        "quartile_3_ms": round(high * 1e3, 2),
        "steps": len(found.seconds),
        "peak_memory_mib": found.peak_mib,
        "mfu": found.mfu and round(found.mfu, 4),
        "loss": found.losses[-1],
        "largest_loss_difference": max((abs(a - b) for a, b in pairs), default=None),
        "device": found.device,
        "kernels": dict(found.kernels),
        "losses": list(found.losses),
    }


def failure(folders: Sequence[Path]) -> str | None:
    """Why a rung has no figures; None where all its rounds are done."""
    for folder in folders:
        outcome = read_outcome(folder)
        if outcome is None:
            return "has not been run"
        if outcome.code:
            return outcome.error or f"exit code {outcome.code}"
    return None


def csv_text(rows: Sequence[Tree]) -> str:
    """The rows under COLUMNS, for other programs."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
