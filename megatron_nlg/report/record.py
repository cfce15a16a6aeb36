"""What a run folder tells of its run, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.files import read_json
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import load_config
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.report.gantt import Pipeline, read_pipeline
from megatron_nlg.training.callbacks.metrics import EVENTS, METRICS, STATISTICS, read_rows

SAMPLES = "samples.jsonl"
Row = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A run, so far."""

    folder: Path
    config: RunConfig
    steps: list[Row]
    """Rows of training steps, one a step, by step."""
    valid: dict[str, list[Row]]
    """Source -> its validation rows, by step."""
    events: list[Row]
    """In the order they happened."""
    samples: list[Row]
    """Generated texts: prompt, text, settings."""
    statistics: list[Row]
    """Rows of statistics.jsonl: noise_scale, layers, or both."""
    pipeline: Pipeline | None
    """The last step of which a timeline was recorded."""
    corpus: Mapping[str, Any] | None
    """The corpus's stats.json, where the blend has one beside it."""

    @property
    def resumes(self) -> list[int]:
        """Steps that the run went on from after a stop."""
        return [event["step"] for event in self.events if event["event"] == "resume"]

    @property
    def layout(self) -> Layout | None:
        """The layout of the last start or resume; None when no start is on record."""
        layouts = [event["layout"] for event in self.events if "layout" in event]
        return Layout(**layouts[-1]) if layouts else None

    @property
    def status(self) -> str:
        """How the run ended, or that no end is on record."""
        if self.events and self.events[-1]["event"] == "end":
            return {
                "done": "finished",
                "signal": "stopped by a signal",
                "time": "stopped by its time limit",
                "failed": "failed",
            }.get(str(self.events[-1].get("status")), str(self.events[-1].get("status")))
        return "running, or killed"


def read_record(folder: Path) -> Record:
    """Read a run folder. Raises InputError, with file and line, for what can't be understood.

    A last line that was being written is left out; of a step that was taken twice, the last row counts.
    """
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run folder: it has no config.yaml; give the folder that train wrote to")
    config = load_config(folder / "config.yaml")
    steps: dict[int, Row] = {}
    valid: dict[str, dict[int, Row]] = {}
    for number, row in enumerate(read_rows(folder / METRICS), start=1):
        where = f"{folder / METRICS}:{number}"
        if row.get("split") == "valid":
            also = ("accuracy", "f1") if config.classes else ("perplexity",)
            _check(row, where, {"step": int, "source": str, **dict.fromkeys(("loss", *also), float)})
            valid.setdefault(row["source"], {})[row["step"]] = row
        else:
            _check(row, where, _STEP)
            steps[row["step"]] = row
    return Record(
        folder=folder,
        config=config,
        steps=[steps[step] for step in sorted(steps)],
        valid={source: [rows[step] for step in sorted(rows)] for source, rows in valid.items()},
        events=_events(folder),
        samples=_samples(folder),
        statistics=_statistics(folder),
        pipeline=read_pipeline(folder),
        corpus=_corpus(config),
    )


_STEP: Mapping[str, type] = {
    **dict.fromkeys(("step", "samples", "tokens", "batch_size"), int),
    **dict.fromkeys(("loss", "grad_norm", "lr", "step_seconds", "tokens_per_second"), float),
}


def _check(row: Row, where: str, fields: Mapping[str, type]) -> None:
    """Hold a row against its fields; a float may be null, which says that it was no number."""
    for key, kind in fields.items():
        value = row.get(key)
        good = isinstance(value, (int, float, type(None)) if kind is float else kind) and not isinstance(value, bool)
        if key not in row or not good:
            found = repr(value) if key in row else "absent"
            raise InputError(f"{where}: {key}: {kind.__name__} expected, but it is {found}; remove or mend the line")


def _events(folder: Path) -> list[Row]:
    events = read_rows(folder / EVENTS)
    for number, event in enumerate(events, start=1):
        where = f"{folder / EVENTS}:{number}"
        _check(event, where, {"event": str, "step": int, "time": float})
        try:
            Layout(**event.get("layout", {}))
        except TypeError:
            raise InputError(f"{where}: layout: not understood: {event['layout']!r}; remove the line") from None
    return events


def _statistics(folder: Path) -> list[Row]:
    rows = read_rows(folder / STATISTICS)
    for number, row in enumerate(rows, start=1):
        layers = row.get("layers", {})
        _check(row, f"{folder / STATISTICS}:{number}", {"step": int})
        if not isinstance(layers, dict) or not all(isinstance(values, dict) for values in layers.values()):
            raise InputError(f"{folder / STATISTICS}:{number}: layers: not understood; remove the line")
    return rows


def _samples(folder: Path) -> list[Row]:
    samples = read_rows(folder / SAMPLES)
    for number, sample in enumerate(samples, start=1):
        _check(sample, f"{folder / SAMPLES}:{number}", {"prompt": str, "text": str})
    return samples


def _corpus(config: RunConfig) -> Mapping[str, Any] | None:
    """stats.json beside the blend, when both are still where training found them."""
    path = Path(config.data.blend).parent / "stats.json" if config.data.blend else None
    if path is None or not path.is_file():
        return None
    stats = read_json(path, "prepare the corpus again (megatron-nlg prep run)")
    problem = _stats_problem(stats)
    if problem:
        raise InputError(f"{path}: {problem}; prepare the corpus again (megatron-nlg prep run)")
    return stats


def _stats_problem(stats: Mapping[str, Any]) -> str | None:
    counts: Sequence[str] = ("documents_in", "bytes_in", "documents_out", "bytes_out")
    for name, stage in stats.get("stages", {}).items():
        for source, tally in stage.get("sources", {}).items():
            bad = [key for key in counts if not isinstance(tally.get(key), int)]
            bad += [key for key in ("dropped",) if not isinstance(tally.get(key), dict)]
            if bad:
                return f"stages.{name}.sources.{source}: no usable {', '.join(bad)}"
    return None
