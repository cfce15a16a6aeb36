"""Files of labelled texts (TSV with a header, or JSONL), and the length of training by them. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_nlg.config.classification import template_columns
from megatron_nlg.config.errors import ConfigError, InputError, Problem
from megatron_nlg.config.schema import Classification, RunConfig
from megatron_nlg.config.validate import consistency

NO_LABEL = -1
SHOWN = 60
"""Characters of a broken line that a message shows."""


@dataclass(frozen=True)
class Texts:
    """Texts with their classes."""

    texts: list[str]
    classes: list[int]
    """Positions in data.classification.labels; NO_LABEL where a file needs none and has none."""
    places: list[str]
    """FILE:LINE of each."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, numbers: list[int]) -> Texts:
        """Some of them, in that order."""
        return Texts(
            [self.texts[i] for i in numbers], [self.classes[i] for i in numbers], [self.places[i] for i in numbers]
        )


def read_sets(config: RunConfig) -> tuple[Texts, Texts]:
    """Texts to train and to validate on. Raises InputError, with file and line, for what can't be used."""
    settings = config.data.classification
    assert settings
    train = read_texts(Path(settings.train), settings)
    if settings.validation is not None:
        return train, read_texts(Path(settings.validation), settings)
    order = np.random.default_rng((config.seed, 0)).permutation(len(train)).tolist()
    cut = round(config.data.split[0] * len(train))
    if not 0 < cut < len(train):
        raise InputError(
            f"data.split: {list(config.data.split)} leaves training or validation without any of the {len(train)} "
            f"texts of {settings.train}; change it, or set data.classification.validation"
        )
    return train.take(sorted(order[:cut])), train.take(sorted(order[cut:]))


def read_texts(path: Path, settings: Classification, labelled: bool = True) -> Texts:
    """A file's texts and classes, which it may lack unless `labelled`. Raises InputError with file and line."""
    columns = template_columns(settings.text)
    classes = {name: number for number, name in enumerate(settings.labels)}
    found = Texts([], [], [])
    for place, row in _rows(path, [*columns, settings.label] if labelled else columns):
        label = row.get(settings.label)
        if label is not None and label not in classes:
            known = ", ".join(settings.labels)
            raise InputError(f"{place}: {settings.label} is {label!r}, and data.classification.labels are {known}")
        for column in columns:
            if not row[column].strip():
                raise InputError(f"{place}: {column} is empty; remove or mend the line")
        found.texts.append(settings.text.format_map(row))
        found.classes.append(NO_LABEL if label is None else classes[label])
        found.places.append(place)
    if not found.texts:
        raise InputError(f"{path}: holds no text; data.classification needs examples")
    return found


def with_epochs(config: RunConfig) -> RunConfig:
    """Of task classification: the config with schedule.train_tokens as it follows from epochs and examples.

    Raises InputError for files that can't be used, ConfigError where other settings contradict the length of training.
    """
    settings = config.data.classification
    if settings is None:
        return config
    examples = len(read_sets(config)[0])
    tokens = settings.epochs * examples * settings.max_length
    given = config.schedule.train_tokens
    if given not in (0, tokens):
        product = f"{settings.epochs} epochs × {examples} examples × max_length {settings.max_length} = {tokens}"
        raise ConfigError([Problem("schedule.train_tokens", f"{given} is not {product}", "leave it out")], "epochs")
    schedule = config.schedule.model_copy(update={"train_tokens": tokens})
    resolved = config.model_copy(update={"schedule": schedule})
    if problems := list(consistency(resolved)):
        raise ConfigError(problems, f"{tokens} tokens of training")
    return resolved


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """FILE:LINE and the asked-for columns of every line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; see data.classification") from None
    if lines and not lines[-1]:
        lines.pop()
    header: list[str] | None = None
    for number, line in enumerate(lines, start=1):
        place = f"{path}:{number}"
        try:
            text = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: not UTF-8 at byte {error.start} of the line; mend it") from None
        if path.suffix == ".jsonl":
            row = _object(text, place)
        elif header is None:
            header = text.removeprefix("\ufeff").split("\t")
            _need(header, columns, place)
            continue
        else:
            fields = text.split("\t")
            if len(fields) != len(header):
                raise InputError(
                    f"{place}: {len(fields)} columns, and the header has {len(header)}: {text[:SHOWN]!r}; mend the line"
                )
            row = dict(zip(header, fields, strict=True))
        _need(list(row), columns, place)
        yield place, row


def _object(text: str, place: str) -> dict[str, str]:
    """The texts and whole numbers of a JSON object, as texts."""
    try:
        row = json.loads(text)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise InputError(f"{place}: not a JSON object: {text[:SHOWN]!r}; remove or mend the line")
    return {
        key: str(value)
        for key, value in row.items()
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
    }


def _need(there: list[str], columns: list[str], place: str) -> None:
    missing = [column for column in columns if column not in there]
    if missing:
        raise InputError(
            f"{place}: has no {', '.join(missing)}; there are: {', '.join(there)}; name columns by "
            "data.classification.text and .label"
        )
