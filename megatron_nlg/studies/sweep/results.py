"""What the run folders of a sweep tell: a row and a curve a run, and the largest stable rate of every combination."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import ConfigError, NumericError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning.parameters import total_parameters
from megatron_nlg.studies.runs import Outcome, read_outcome, resolved
from megatron_nlg.studies.sweep.grid import Axis, GridRun
from megatron_nlg.studies.sweep.rules import Rules
from megatron_nlg.studies.sweep.verdict import FAILED, UNFINISHED, Verdict, judge, largest_good, largest_stable
from megatron_nlg.training.callbacks.metrics import METRICS, read_rows

RATE = "optimizer.lr"


@dataclass(frozen=True)
class Row:
    """A run and its verdict."""

    name: str
    labels: Mapping[str, str]
    """Axis -> label of its point."""
    parameters: int | None
    """Of the model; None where the config is wrong, as for what follows."""
    lr: float | None
    init_std: float | None
    beta2: float | None
    warmup_steps: int
    verdict: Verdict
    uniform: float | None = None
    """Loss of a model that knows nothing, ln(vocabulary)."""
    steps: int = 0
    seconds: float = 0.0
    """Time of all steps."""
    validation: float | None = None
    """The last validation loss, the mean over sources."""
    error: str | None = None
    losses: Sequence[float | None] = field(default_factory=tuple)
    """Of steps 1, 2, …; None is one that was not finite."""

    def tree(self) -> dict[str, Any]:
        """As JSON, the curve apart."""
        tree = asdict(self)
        del tree["losses"]
        verdict = tree.pop("verdict")
        return {**tree, "verdict": verdict.pop("word"), **verdict, "spikes": list(self.verdict.spikes)}


@dataclass(frozen=True)
class Stable:
    """The largest stable rate of runs that differ in nothing else."""

    labels: Mapping[str, str]
    """All axes but that of the rate."""
    parameters: int
    init_std: float
    beta2: float
    rates: Sequence[float]
    """What was tried, rising."""
    words: Sequence[str]
    """The verdict on each."""
    largest: float | None
    """None where none is."""
    is_bound: bool
    """Whether it is the largest that was tried: the true one may be larger."""
    good: float | None
    """The largest that ends about as low as the best."""
    best: float | None
    """The rate whose run ends lowest."""
    finals: Sequence[float | None]
    """Where each rate ends."""


def read_rows_of(
    config: Path, overrides: Sequence[str], runs: Sequence[GridRun], folder: Path, rules: Rules
) -> list[Row]:
    """A row for every run of the grid, whatever became of it."""
    rows = []
    for run in runs:
        try:
            settings = resolved(config, [*overrides, *run.overrides])
        except ConfigError as error:
            reason = "; ".join(str(problem) for problem in error.problems)
            rows.append(
                Row(run.name, run.labels, None, None, None, None, 0, Verdict(FAILED, reason, None), error=reason)
            )
            continue
        rows.append(_row(run, settings, folder / run.name, rules))
    return rows


def _row(run: GridRun, config: RunConfig, folder: Path, rules: Rules) -> Row:
    logged = read_rows(folder / METRICS)
    train = {row["step"]: row for row in logged if "split" not in row}
    steps = [train[step] for step in sorted(train)]
    losses = [row["loss"] for row in steps]
    tokens = config.batch.global_ * config.sample_length
    warmup = -(-config.schedule.warmup_tokens // tokens)
    outcome = read_outcome(folder)
    uniform = math.log(config.classes or config.model.vocab_size)
    return Row(
        name=run.name,
        labels=run.labels,
        parameters=total_parameters(config.model),
        lr=config.optimizer.lr,
        init_std=config.model.weight_std,
        beta2=config.optimizer.beta2,
        warmup_steps=warmup,
        verdict=_verdict(outcome, losses, uniform, warmup // config.log.interval, rules),
        uniform=uniform,
        steps=steps[-1]["step"] if steps else 0,
        seconds=round(sum(row["step_seconds"] for row in steps) * config.log.interval, 3),
        validation=_validation(logged),
        error=outcome.error if outcome else None,
        losses=losses,
    )


def _verdict(
    outcome: Outcome | None, losses: Sequence[float | None], uniform: float, warmup: int, rules: Rules
) -> Verdict:
    """By how the run ended, and then by its curve."""
    if outcome is None:
        return Verdict(UNFINISHED, "has not ended", None)
    if outcome.code == NumericError.exit_code:
        return judge(losses, uniform, warmup, rules, (outcome.error or "numeric failure").partition(":")[0])
    if outcome.code:
        return Verdict(FAILED, outcome.error or f"exit code {outcome.code}", None)
    return judge(losses, uniform, warmup, rules)


def _validation(logged: Sequence[Mapping[str, Any]]) -> float | None:
    last = max((row["step"] for row in logged if "split" in row), default=None)
    losses = [row["loss"] for row in logged if "split" in row and row["step"] == last]
    if not losses or any(loss is None for loss in losses):
        return None
    return float(math.fsum(losses) / len(losses))


def stable_rates(rows: Sequence[Row], axes: Sequence[Axis], rules: Rules) -> list[Stable]:
    """One for every combination of the other axes; none when the learning rate is on no axis."""
    rate = rate_axis(axes)
    if rate is None:
        return []
    others = [axis.name for axis in axes if axis is not rate]
    known = [row for row in rows if row.lr is not None]
    order = {axis.name: [point.label for point in axis.points] for axis in axes}

    def key(row: Row) -> list[int]:
        return [order[name].index(row.labels[name]) for name in others]

    found = []
    for _, group in groupby(sorted(known, key=key), key):
        together = sorted(group, key=lambda row: row.lr or 0.0)
        first, rates = together[0], [row.lr or 0.0 for row in together]
        words = [row.verdict.word for row in together]
        largest, bound = largest_stable(rates, words)
        finals = [row.verdict.final for row in together]
        best = min(((end, rate) for end, rate in zip(finals, rates, strict=True) if end is not None), default=None)
        assert first.parameters is not None and first.init_std is not None and first.beta2 is not None
        found.append(
            Stable(
                labels={name: first.labels[name] for name in others},
                parameters=first.parameters,
                init_std=first.init_std,
                beta2=first.beta2,
                rates=rates,
                words=words,
                largest=largest,
                is_bound=bound,
                good=largest_good(rates, words, finals, rules.worse),
                best=best[1] if best else None,
                finals=finals,
            )
        )
    return found


def rate_axis(axes: Sequence[Axis]) -> Axis | None:
    """The axis of the learning rate alone."""
    return next((axis for axis in axes if axis.keys == (RATE,)), None)


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as a table for other programs."""
    trees = [{**row.tree(), **{f"axis {name}": label for name, label in row.labels.items()}} for row in rows]
    for tree in trees:
        tree.pop("labels")
        tree["spikes"] = len(tree["spikes"])
    out = io.StringIO()
    writer = csv.DictWriter(out, list(trees[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(trees)
    return out.getvalue()
