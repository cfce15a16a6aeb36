"""The labelled texts of a study: which are looked at, which a threshold is fitted on, and which it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.files import fingerprint
from megatron_nlg.analysis.source import config_of
from megatron_nlg.config.classification import own_problems
from megatron_nlg.config.errors import ConfigError, InputError
from megatron_nlg.config.schema import Classification
from megatron_nlg.data.labelled import Texts, read_sets, read_texts

LONGEST = 128
"""Tokens of a text where no classifier says how many."""


@dataclass(frozen=True)
class Examples:
    """Texts of a study. Parts are numbers of texts, each in rising order."""

    texts: list[str]
    classes: NDArray[np.int64]
    """[texts]"""
    labels: tuple[str, ...]
    settings: Classification
    """How texts are made and cut."""
    shown: NDArray[np.int64]
    """What geometry is measured on: the first ones."""
    fitted: NDArray[np.int64]
    """What thresholds and variances for the ablation are taken from."""
    held: NDArray[np.int64]
    """What accuracies are of."""

    @property
    def identity(self) -> str:
        """Another one for other texts, or another way to cut them."""
        cut = (self.settings.max_length, self.settings.cut)
        return fingerprint([self.texts, self.classes.tolist(), *map(str, cut)])[:16]


def settings_of(folders: Sequence[Path], text: str | None, label: str | None, labels: str | None) -> Classification:
    """How texts are read: as the first classifier among the models does, unless options say otherwise.

    Raises InputError where there is none and options do not say enough, ConfigError for what makes no sense.
    """
    own = (config.data.classification for folder in folders if (config := config_of(folder)))
    found = next((settings for settings in own if settings), None)
    names = tuple(name for name in (labels or "").split(",") if name)
    if found is None and not names:
        raise InputError("--labels: none of the models is a classifier here, so name the classes, such as 0,1")
    base: dict[str, Any] = found.model_dump() if found else {"train": "", "max_length": LONGEST}
    given = {"text": text, "label": label, "labels": names or None}
    settings = Classification(**base | {key: value for key, value in given.items() if value is not None})
    longest = max(settings.max_length, LONGEST)
    if problems := list(own_problems(settings, longest)):
        raise ConfigError(problems, "--text, --label, --labels")
    return settings


def read_sets_of(
    run: Path, data: Path | None, train: Path | None, settings: Classification
) -> tuple[Texts, Texts | None]:
    """Texts to look at and, where there are others, to fit on: the files', or those that a classifier has itself.

    Raises InputError with file and line.
    """
    if data is not None:
        return read_texts(data, settings), None if train is None else read_texts(train, settings)
    config = config_of(run)
    if config is None or config.data.classification is None:
        raise InputError(f"--data: {run} is no classifier, which would have texts of its own; name a file")
    if train is not None:
        raise InputError(f"--train {train}: without --data a classifier's own texts are taken; give both, or none")
    own = config.data.model_copy(update={"classification": settings})
    fitted, seen = read_sets(config.model_copy(update={"data": own}))
    return seen, fitted


def examples_of(
    seen: Texts, other: Texts | None, settings: Classification, limit: int, split: float, seed: int
) -> Examples:
    """At most `limit` texts of each, drawn by the seed.

    With `other`, thresholds are fitted on it; else on a share `split` of `seen`, and accuracies are of the rest.
    Raises InputError for too few.
    """
    draw = np.random.default_rng(seed)
    seen = _some(seen, limit, draw)
    if other is not None:
        other = _some(other, limit, draw)
        texts, classes = seen.texts + other.texts, seen.classes + other.classes
        shown, fitted = np.arange(len(seen)), np.arange(len(seen), len(texts))
        held = shown
    else:
        texts, classes, shown = seen.texts, seen.classes, np.arange(len(seen))
        order, cut = draw.permutation(len(seen)), round(split * len(seen))
        fitted, held = np.sort(order[:cut]), np.sort(order[cut:])
    found = np.asarray(classes, np.int64)
    for name, part in (("fit on", fitted), ("judge by", held)):
        if len(part) < 4 or len(set(found[part].tolist())) < 2:
            raise InputError(
                f"--data: leaves {len(part)} texts of {len(set(found[part].tolist()))} classes to {name}; four or "
                "more of two are needed: give more texts, another --limit or --split"
            )
    return Examples(texts, found, settings.labels, settings, shown, fitted, held)


def _some(texts: Texts, limit: int, draw: np.random.Generator) -> Texts:
    if len(texts) <= limit:
        return texts
    return texts.take(np.sort(draw.choice(len(texts), limit, replace=False)).tolist())
