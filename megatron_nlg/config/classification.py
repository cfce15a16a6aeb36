"""Task classification in a run config: what it must satisfy, and the model that it takes from another run."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from megatron_nlg.config.base import merge, read_yaml
from megatron_nlg.config.errors import InputError, Problem
from megatron_nlg.config.schema import Classification, RunConfig


def classification_problems(config: RunConfig) -> Iterator[Problem]:
    """Settings that a classifier lacks, that contradict each other, or that mean nothing to it."""
    settings = config.data.classification
    if config.task == "pretraining":
        if settings:
            yield Problem("data.classification", "is for task classification", "set task: classification")
        return
    if settings is None:
        yield Problem("data.classification", "is what task classification learns from", "set it")
        return
    yield from own_problems(settings, config.model.sequence_length)
    parallel, data = config.parallel, config.data
    if parallel.sequence and settings.max_length % parallel.tensor:
        yield Problem(
            "data.classification.max_length",
            f"{settings.max_length} is not divisible by parallel.tensor {parallel.tensor}, as parallel.sequence needs",
            "change one of the two",
        )
    for key, given in (
        ("parallel.context", parallel.context > 1),
        ("schedule.sequence_warmup", config.schedule.sequence_warmup is not None),
        ("data.blend", data.blend is not None),
        ("data.stages", bool(data.stages)),
        ("data.validation", bool(data.validation)),
        ("data.reset_attention", data.reset_attention),
        ("data.reset_positions", data.reset_positions),
        ("data.mask_eod_loss", data.mask_eod_loss),
        ("evaluation.tasks", bool(config.evaluation.tasks)),
    ):
        if given:
            yield Problem(key, "means nothing to task classification", "leave it out")


def own_problems(settings: Classification, sequence_length: int) -> Iterator[Problem]:
    """What is wrong with how texts and their classes are read, whoever reads them."""
    prefix = "data.classification"
    if len(set(settings.labels)) < 2 or len(set(settings.labels)) < len(settings.labels):
        yield Problem(f"{prefix}.labels", f"{list(settings.labels)}", "give two or more different classes")
    if settings.max_length > sequence_length:
        yield Problem(
            f"{prefix}.max_length",
            f"{settings.max_length} is above model.sequence_length {sequence_length}",
            "lower it",
        )
    try:
        columns = template_columns(settings.text)
    except ValueError as error:
        yield Problem(f"{prefix}.text", f"{settings.text!r}: {error}", 'write columns as in "{question}\\n{sentence}"')
        return
    if not columns:
        yield Problem(f"{prefix}.text", f"{settings.text!r} names no column", 'name one, as in "{sentence}"')
    if settings.label in columns:
        yield Problem(f"{prefix}.text", f"holds the label ({settings.label})", "leave that column out")


def template_columns(text: str) -> list[str]:
    """Columns that a template names. Raises ValueError for one that is not a plain template."""
    columns = []
    for _, name, form, conversion in string.Formatter().parse(text):
        if name is None:
            continue
        if form or conversion or not name or set(name) & set(".["):
            raise ValueError(f"{{{name}}} is not the name of a column")
        columns.append(name)
    return columns


def with_loaded_model(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A classifier's settings laid over the model of the run that it starts from, so that it need not be repeated.

    Raises InputError when that run's config can't be read.
    """
    given = tree.get("checkpoint")
    path = given.get("load_from") if isinstance(given, Mapping) else None
    if tree.get("task") != "classification" or not isinstance(path, str) or not isinstance(tree.get("model", {}), dict):
        return dict(tree)
    run = run_of(Path(path))
    if run is None:  # a run that goes on from its own checkpoints has all of its model in its config
        return dict(tree)
    model = read_yaml(run / "config.yaml").get("model")
    if not isinstance(model, Mapping):
        raise InputError(f"{run / 'config.yaml'}: has no model; checkpoint.load_from must name a run that was trained")
    return {**tree, "model": merge(model, tree.get("model") or {})}


def run_of(path: Path) -> Path | None:
    """The run folder of a run, its checkpoints/ or one checkpoint; None where there is none."""
    path = path.resolve()
    return next((folder for folder in (path, *path.parents[:2]) if (folder / "config.yaml").is_file()), None)
