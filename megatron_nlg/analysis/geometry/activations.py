"""Activations of a study's texts by its models, kept as files: what is there already is not made again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.files import fingerprint, make_folder, read_json, write_json
from megatron_nlg.analysis.progress import bar
from megatron_nlg.analysis.representations import Head, Linear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from megatron_nlg.analysis.geometry.examples import Examples
    from megatron_nlg.analysis.representations import Represented
    from megatron_nlg.parallel.supervisor import Terminal

    Floats = NDArray[np.float32]

ABOUT = "about.json"
Pooled = Literal["summary", "mean"]
POOLINGS: tuple[Pooled, ...] = ("summary", "mean")


@dataclass(frozen=True)
class Activations:
    """What a model makes of the texts."""

    name: str
    about: dict[str, Any]
    """Step, layers, hidden size, where it sums texts up, classes of its head, texts that were cut."""
    array: Floats
    """[layers, 2 × texts, hidden size], mapped."""
    head: Head | None
    """None of a model that is no classifier."""

    def layer(self, number: int, pooled: Pooled = "summary") -> Floats:
        """[texts, hidden size]: at the token that sums a text up, or the mean over its tokens."""
        return self.array[number, POOLINGS.index(pooled) :: len(POOLINGS)]

    @property
    def layers(self) -> int:
        """Blocks and the embeddings."""
        return len(self.array)


def make(folder: Path, overrides: Sequence[str], name: str, examples: Examples, out: Path) -> int:
    """Make what `out` lacks of a model's activations; returns the exit code."""
    from megatron_nlg.analysis.source import with_model

    make_folder(out)
    return with_model(folder, overrides, partial(_task, name, examples, out))


def load(name: str, out: Path) -> Activations:
    """What `make` has made."""
    about = read_json(out / ABOUT, "start the same command again")
    array, head = _files(out, about["identity"])
    return Activations(name, about, np.load(array, mmap_mode="r"), _load_head(head, about) if about["labels"] else None)


def _load_head(file: Path, about: dict[str, Any]) -> Head:
    with np.load(file) as found:
        parts = [(found[f"weight_{i}"], found[f"bias_{i}"]) for i in range(len(about["activations"]))]
    layers = (Linear(*part, activation=how) for part, how in zip(parts, about["activations"], strict=True))
    return Head(tuple(layers), tuple(about["labels"]))


def _files(out: Path, identity: dict[str, Any]) -> tuple[Path, Path]:
    """Of the activations and of the head. Their names tell what they are of: a job that was killed leaves no doubt."""
    key = fingerprint(identity)[:16]
    return out / f"{key}.npy", out / f"{key}.npz"


def _is_whole(out: Path, identity: dict[str, Any]) -> bool:
    """Whether all is there of what `identity` names."""
    if not (out / ABOUT).is_file():
        return False
    about = read_json(out / ABOUT, f"delete {out}")
    array, head = _files(out, identity)
    return about.get("identity") == identity and array.is_file() and (not about["labels"] or head.is_file())


def _task(name: str, examples: Examples, out: Path, model: Represented, terminal: Terminal) -> None:
    """On every rank. about.json comes last: with it all is there."""
    from data_prep.files import replacing
    from megatron_nlg.analysis.representations import collect

    wanted = {"model": model.identity, "texts": examples.identity}
    if _is_whole(out, wanted):
        return
    head = model.head()
    cut = examples.settings
    inputs, longer = [], 0
    for text in examples.texts:
        found = model.prepare(text, (model.summary, "mean"), max_length=cut.max_length, cut=cut.cut)
        assert found is not None  # nothing was marked
        inputs.append(found)
        longer += len(model.encode(text)) + len(model.before) + len(model.after) > len(found.tokens)
    array_file, head_file = _files(out, wanted)
    with bar(name, sum(len(each.spans) for each in inputs), terminal.err, model.is_main) as advance:
        array = collect(model, inputs, array_file, progress=advance)
    if array is None:
        return
    if head is not None:
        with replacing(head_file) as temporary, temporary.open("wb") as file:
            parts: dict[str, Any] = {f"weight_{i}": layer.weight for i, layer in enumerate(head.layers)}
            np.savez(file, **parts | {f"bias_{i}": layer.bias for i, layer in enumerate(head.layers)})
    about = {"identity": wanted, "summary": model.summary, "longer": longer} | {
        "layers": model.layers,
        "hidden_size": model.hidden_size,
        "labels": list(head.labels) if head else [],
        "activations": [layer.activation for layer in head.layers] if head else [],
        "step": model.identity.get("step"),
    }
    write_json(out / ABOUT, about)
    for old in {*out.glob("*.np[yz]")} - {array_file, head_file}:
        old.unlink()
