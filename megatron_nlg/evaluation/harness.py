"""Tasks of lm-evaluation-harness on the sets of a folder or a hub, and their metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from datasets import Dataset, disable_progress_bars  # type: ignore[import-untyped]
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.files import read_set
from megatron_nlg.evaluation.requests import FastTask

TASKS = Path(__file__).parent / "tasks"
SEED = 1234
"""Of the choice of few-shot examples; the harness's own default."""
BOOTSTRAPS = 100
"""For standard errors of what is not a mean (a perplexity)."""


@dataclass(frozen=True)
class Source:
    """Where tasks come from, and how they are asked."""

    data: Path | None
    """Folder of sets; None: the hub."""
    same_shots: bool = False
    """Whether every question gets the same examples: the first ones, encoded once for all."""
    fast_requests: bool = False
    """Whether requests are built by requests.py."""
    shuffled: bool = False
    """Whether rows of files are drawn in an order of their own, always the same: the first N are then a fair sample
    (HANS has all of one label first)."""


def own_tasks() -> list[str]:
    """Names of this project's task files."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def build_task(name: str, shots: int, source: Source) -> Any:
    """A task with so many examples. Raises InputError when its set is missing or too small."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of what is meant to be
    disable_progress_bars()  # those of copies that take no time
    path = TASKS / f"{name}.yaml"
    if path.exists():
        config = load_yaml(path)
    elif source.data is not None:
        raise InputError(f"--tasks {name}: is not a task that reads --data; those are {', '.join(own_tasks())}")
    else:
        return _hub_task(name, shots)
    config["num_fewshot"] = shots
    if source.data is not None:
        config |= _local(config["metadata"]["set"], source)
    if source.same_shots:
        config["fewshot_config"] = {"sampler": "first_n"}
    kind = FastTask if source.fast_requests else ConfigurableTask
    with _hub_errors(name, source):
        task = kind(config=config)
    return _checked(task, name, shots)


def _local(set_name: str, source: Source) -> dict[str, Any]:
    """What a task's config says of a set in files."""
    examples = "examples" if "examples" in _read(set_name, source.data) else "evaluated"
    return {
        "custom_dataset": partial(_datasets, source),
        "dataset_path": None,
        "dataset_name": None,
        "training_split": None,
        "validation_split": None,
        # The harness leaves the question itself out of the examples where both are of the test split.
        "test_split": "evaluated",
        "fewshot_split": examples,
    }


@cache
def _read(set_name: str, data: Path | None) -> dict[str, list[dict[str, Any]]]:
    assert data is not None
    return read_set(set_name, data)


def _datasets(source: Source, **metadata: Any) -> dict[str, Dataset]:
    sets = dict(_read(metadata["set"], source.data))
    if source.shuffled:
        sets["evaluated"] = Random(SEED).sample(sets["evaluated"], len(sets["evaluated"]))
    return {split: Dataset.from_list(rows) for split, rows in sets.items()}


@contextmanager
def _hub_errors(name: str, source: Source) -> Iterator[None]:
    """Say plainly that the hub can't be reached."""
    try:
        yield
    except (OSError, ValueError) as error:
        if source.data is not None:
            raise
        reason = str(error).strip().split("\n")[0]
        mend = "give --data DIR" if name in own_tasks() else "fetch it where the hub can be reached"
        raise InputError(f"--tasks {name}: its set can't be had from the hub ({reason}); {mend}") from None


def _hub_task(name: str, shots: int) -> Any:
    """A task of the harness's own."""
    manager = TaskManager()
    if name not in manager.all_tasks:
        known = ", ".join(own_tasks())
        raise InputError(f"--tasks {name}: is neither a task of lm-evaluation-harness nor one of {known}")
    with _hub_errors(name, Source(None)):
        tasks = manager.load([name])["tasks"]
    if len(tasks) != 1:
        raise InputError(f"--tasks {name}: is a group; name its tasks: {', '.join(tasks)}")
    [task] = tasks.values()
    task.set_config(key="num_fewshot", value=shots)
    return _checked(task, name, shots)


def _checked(task: Any, name: str, shots: int) -> Any:
    pool = len(task.sampler.df) - (task.fewshot_cfg.split == task.config.test_split) if shots else 0
    if shots > pool:
        raise InputError(
            f"--shots: {shots} examples for {name}, and there are {pool}; ask for fewer, or add a train file"
        )
    task.set_fewshot_seed(seed=SEED)
    return task


def measure(lm: LM, task: Any, limit: int | None = None) -> dict[str, float]:
    """The task's metrics, each with `<metric>_stderr` where it is known, and `documents`."""
    os.environ["DISABLE_MULTIPROC"] = "1"  # the harness would fork this rank for its bootstrap
    name = task.config.task
    found = evaluate(
        lm, {"tasks": {name: task}, "groups": {}}, limit=limit, bootstrap_iters=BOOTSTRAPS, log_samples=False
    )
    metrics = {
        key.removesuffix(",none"): float(value)
        for key, value in found["results"][name].items()
        if key.endswith(",none") and isinstance(value, int | float)
    }
    return metrics | {"documents": found["n-samples"][name]["effective"]}
