"""Representations of probing sets by a model, kept as files while a study runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.files import make_folder, read_json, write_json
from megatron_nlg.analysis.probing.example import LEAST, ProbingSet
from megatron_nlg.analysis.probing.measure import Represented as Features
from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.analysis.representations import Input, Represented
    from megatron_nlg.parallel.supervisor import Terminal

ABOUT = "about.json"
MEND = "start the same command again"


def make(folder: Path, overrides: Sequence[str], name: str, sets: Sequence[ProbingSet], out: Path) -> int:
    """Make what `out` lacks of a model's representations; returns the exit code."""
    from megatron_nlg.analysis.source import with_model

    make_folder(out)
    return with_model(folder, overrides, partial(_task, name, sets, out))


def about(out: Path) -> dict[str, Any]:
    """The model's identity, layers and hidden size."""
    return read_json(out / ABOUT, MEND)


def load(some: ProbingSet, out: Path) -> Features:
    """A set as `make` has represented it, without examples that are longer than the model's sequence."""
    kept = read_json(out / f"{some.name}.json", MEND)["kept"]
    array = np.load(out / f"{some.name}.npy", mmap_mode="r")
    layers, spans, hidden = array.shape
    examples = [some.examples[i] for i in kept]
    return Features(
        some.name,
        array.reshape(layers, len(kept), spans // len(kept), hidden),
        np.array([example.label for example in examples], np.int64),
        len(some.classes),
        [example.type for example in examples],
    )


def clear(out: Path) -> None:
    """Remove the arrays of a finished study; about.json stays, and says what its rows are of."""
    for path in out.iterdir():
        if path.name != ABOUT:
            path.unlink()


def _task(name: str, sets: Sequence[ProbingSet], out: Path, model: Represented, terminal: Terminal) -> None:
    """On every rank. A set's .json comes after its array: with it both are there."""
    wanted = {"model": dict(model.identity)}
    if model.is_main:
        write_json(out / ABOUT, wanted | {"layers": model.layers, "hidden_size": model.hidden_size})
    for some in sets:
        identity = wanted | {"set": some.identity}
        if not _is_there(out / f"{some.name}.json", identity):
            _represent(name, some, identity, out, model, terminal)


def _is_there(path: Path, identity: Mapping[str, Any]) -> bool:
    return path.is_file() and read_json(path, MEND).get("identity") == identity


def _represent(
    name: str, some: ProbingSet, identity: Mapping[str, Any], out: Path, model: Represented, terminal: Terminal
) -> None:
    """One set, on every rank. Raises InputError where too few of its examples fit."""
    from megatron_nlg.analysis.progress import bar
    from megatron_nlg.analysis.representations import collect

    inputs: list[Input] = []
    kept = []
    for number, example in enumerate(some.examples):
        found = model.prepare(example.text, marks=example.marks)
        if found:
            inputs.append(found)
            kept.append(number)
    if len(kept) < LEAST:
        raise InputError(
            f"{name}: {len(kept)} of {len(some.examples)} examples of {some.name} fit into its {model.max_length} "
            "tokens; lower --passage-words"
        )
    with bar(f"{name}, {some.name}", sum(len(each.spans) for each in inputs), terminal.err, model.is_main) as advance:
        array = collect(model, inputs, out / f"{some.name}.npy", progress=advance)
    if array is not None:
        write_json(out / f"{some.name}.json", {"identity": identity, "kept": kept})
