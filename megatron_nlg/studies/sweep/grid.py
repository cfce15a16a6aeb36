"""`--grid` options as axes, and axes as runs.

    optimizer.lr=1e-3,3e-3                          one setting
    model.hidden_size:model.num_layers=64:2,128:4   settings that change together
    size=@small.yaml,@large.yaml                    files of settings, under a name of one's own

Commas inside brackets, braces or quotes belong to a value. Pure Python, no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from megatron_nlg.config.base import all_keys, build, known_keys, parse_yaml, read_yaml
from megatron_nlg.config.errors import ConfigError, InputError
from megatron_nlg.config.schema import RunConfig

LONGEST_NAME = 120
OPEN, CLOSED = "[{", "]}"


@dataclass(frozen=True)
class Point:
    """A value of an axis."""

    label: str
    """As people read it, such as 0.001."""
    overrides: tuple[str, ...]
    """key=value, as `train` takes them."""


@dataclass(frozen=True)
class Axis:
    """What changes along one direction of the grid."""

    name: str
    """The last part of its first key, such as lr."""
    keys: tuple[str, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class GridRun:
    """One run of the grid."""

    name: str
    """Of its folder."""
    labels: Mapping[str, str]
    """Axis -> label of its point."""
    overrides: tuple[str, ...]


def parse_grid(texts: Sequence[str], fixed: Sequence[str] = ()) -> list[Axis]:
    """Axes of all --grid options; `fixed` are the overrides that hold for every run. Raises InputError."""
    if not texts:
        raise InputError("--grid: at least one is needed, such as --grid optimizer.lr=1e-3,3e-3")
    axes = [parse_axis(text) for text in texts]
    taken: dict[str, str] = {text.partition("=")[0]: f"the override {text}" for text in fixed}
    names: set[str] = set()
    for axis, text in zip(axes, texts, strict=True):
        for key in axis.keys:
            clash = next((known for known in taken if _overlap(known, key)), None)
            if clash is not None:
                raise InputError(f"--grid {text}: {key} is set by {taken[clash]} too; name it once")
        taken.update(dict.fromkeys(axis.keys, f"--grid {text}"))
        if axis.name in names:
            raise InputError(
                f"--grid {text}: two axes are called {axis.name}; bind them, or name one of them otherwise"
            )
        names.add(axis.name)
    return axes


def parse_axis(text: str) -> Axis:
    """One --grid option. Raises InputError that names the key or the value."""
    left, sign, right = text.partition("=")
    words = _split(right, ",")
    if not sign or not left or not right.strip() or not all(word.strip() for word in words):
        raise InputError(f"--grid {text}: expected KEY=VALUE,VALUE…, such as optimizer.lr=1e-3,3e-3")
    if all(word.startswith("@") for word in words):
        return _axis_of_files(text, left, [Path(word[1:]) for word in words])
    keys = tuple(left.split(":"))
    for key in keys:
        _check_key(text, key)
    if repeated := next((key for key in keys if keys.count(key) > 1), None):
        raise InputError(f"--grid {text}: {repeated} is bound to itself; name it once")
    rows = [_split(word, ":") if len(keys) > 1 else [word] for word in words]
    if short := next((word for word, row in zip(words, rows, strict=True) if len(row) != len(keys)), None):
        raise InputError(f"--grid {text}: {short} has not one value for each of {', '.join(keys)}; write {_like(keys)}")
    labels = [[_label(text, value) for value in row] for row in rows]
    # The first key's values name the points where they can tell them apart.
    first = [row[0] for row in labels]
    shown = first if len(set(first)) == len(first) else ["+".join(row) for row in labels]
    _check_distinct(text, shown)
    points = [
        Point(label, tuple(f"{key}={value.strip()}" for key, value in zip(keys, row, strict=True)))
        for label, row in zip(shown, rows, strict=True)
    ]
    return Axis(keys[0].rpartition(".")[2], keys, tuple(points))


def _axis_of_files(text: str, name: str, paths: Sequence[Path]) -> Axis:
    """Files of settings, laid over the config one at a time."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise InputError(
            f"--grid {text}: files of settings go under a plain name, such as size=@small.yaml,@large.yaml"
        )
    points, keys = [], dict[str, None]()
    for path in paths:
        leaves = list(_leaves("", read_yaml(path)))
        if not leaves:
            raise InputError(f"--grid {text}: {path} sets nothing")
        for key, _ in leaves:
            _check_key(f"{name}=@{path}", key)
        keys.update(dict.fromkeys(key for key, _ in leaves))
        points.append(Point(path.stem, tuple(f"{key}={json.dumps(value)}" for key, value in leaves)))
    _check_distinct(text, [point.label for point in points])
    return Axis(name, tuple(keys), tuple(points))


def grid_runs(axes: Sequence[Axis]) -> list[GridRun]:
    """All combinations; the last axis changes fastest."""
    runs = []
    for number, points in enumerate(product(*(axis.points for axis in axes))):
        labels = {axis.name: point.label for axis, point in zip(axes, points, strict=True)}
        name = ",".join(f"{axis}={re.sub(r'[^A-Za-z0-9.+-]', '-', label)}" for axis, label in labels.items())
        overrides = tuple(override for point in points for override in point.overrides)
        runs.append(GridRun(name if len(name) <= LONGEST_NAME else f"run_{number:04d}", labels, overrides))
    names = [run.name for run in runs]
    if len(set(names)) < len(names):  # labels that differ only in what a file name can't have
        runs = [GridRun(f"run_{number:04d}", run.labels, run.overrides) for number, run in enumerate(runs)]
    return runs


# ---- words -----------------------------------------------------------------------------------------------------------


def _split(text: str, sign: str) -> list[str]:
    """Parts between `sign` outside of brackets, braces and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in OPEN + CLOSED:
            depth += 1 if character in OPEN else -1
        elif character == sign and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def _label(text: str, word: str) -> str:
    """A value as people read it; equal values have equal labels."""
    value = parse_yaml(word, f"--grid {text}")
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value) if isinstance(value, str | int) else json.dumps(value)


def _check_key(text: str, key: str) -> None:
    """Raise InputError, with the nearest known key, for one that no config has."""
    if key in all_keys(RunConfig):
        return
    tree: Any = None
    for part in reversed(key.split(".")):
        tree = {part: tree}
    try:
        build(RunConfig, tree, "")
    except ConfigError as error:
        unknown = next((problem for problem in error.problems if problem.message == "unknown key"), None)
        mend = unknown.mend if unknown else f"known: {', '.join(known_keys(RunConfig))}"
    raise InputError(f"--grid {text}: {key}: unknown key; {mend}")


def _check_distinct(text: str, labels: Sequence[str]) -> None:
    if repeated := next((label for label in labels if labels.count(label) > 1), None):
        raise InputError(f"--grid {text}: {repeated} is given twice; name each value once")


def _overlap(one: str, other: str) -> bool:
    """Whether two keys set the same thing, or one a part of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _like(keys: Sequence[str]) -> str:
    return ":".join(f"VALUE{number}" for number in range(1, len(keys) + 1))


def _leaves(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield prefix + str(key), value
