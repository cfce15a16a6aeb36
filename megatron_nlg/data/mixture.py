"""Samples drawn from several sources, stage after stage, on Megatron-core's GPTDataset and its blending helper.

A source is one endless stream of samples: where a stage left off, the next one that has it goes on. Its first block is
a GPTDataset with room for the first such stage, as if that lasted to the end of training; later stages may add
blocks, each as long as all before it. So sample i depends on nothing that begins after it.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_nlg.data.plan import Mixture, Plan

Tell = Callable[[str], None]
"""Told what is about to be opened, or built where it is missing."""


class DatasetTokenizer:
    """What GPTDataset asks of a tokenizer.

    The pad id never occurs in data. With a token's own id there, GPTDataset would take that token for padding, mask
    its loss and replace it by token 0, without a word.
    """

    pad = -1

    def __init__(self, plan: Plan):
        self.eod = plan.tokenizer.eod
        self.vocab_size = plan.tokenizer.vocab_size
        self.unique_identifiers = OrderedDict(identity=plan.tokenizer.identity)


@dataclass(frozen=True)
class Documents:
    """Documents [first, end) of a token file; `part` is Megatron-core's name for what they are for."""

    prefix: str
    first: int
    end: int
    part: str


class SourceStream:
    """The samples of one source, without end: blocks that are each shuffled by themselves."""

    def __init__(self, plan: Plan, documents: Documents, first_block: int, samples: int, folder: Path):
        self.blocks: list[Any] = []
        self._ends: list[int] = []
        while not self._ends or self._ends[-1] < samples:
            size = self._ends[-1] if self._ends else first_block
            self.blocks.append(open_block(plan, documents, size, len(self.blocks), folder))
            self._ends.append((self._ends[-1] if self._ends else 0) + len(self.blocks[-1]))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        sample: dict[str, Any] = self.blocks[number][index - start]
        return sample


class MixedDataset:
    """Samples of all stages in a row. Sample i is a dict: tokens, labels (int64), loss_mask (float32), [sequence]."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        stages: Sequence[Mixture],
        documents: Mapping[str, Documents],
        folder: Path,
        tell: Tell,
    ):
        self._firsts = [stage.first for stage in stages]
        self._sources = [list(stage.shares) for stage in stages]
        self._samples = stages[-1].first + stages[-1].samples
        tell(f"{name}: which source gives which sample")
        self._orders, counts = _orders(name, stages, folder)
        self.streams: dict[str, SourceStream] = {}
        for source, where in documents.items():
            share, room = next((s.shares[source], s.room) for s in stages if source in s.shares)
            # The blend takes the source with the largest deficit: at most one sample beyond its share.
            first_block = math.ceil(share * room) + 1
            tell(f"{name}: {source}")
            self.streams[source] = SourceStream(plan, where, first_block, counts[source], folder)

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, sample = self.locate(index)
        return self.streams[source][sample]

    def locate(self, index: int) -> tuple[str, int]:
        """The source that gives sample `index`, and which of that source's samples it is."""
        if not 0 <= index < self._samples:
            raise IndexError(f"sample {index} of {self._samples}")
        number = bisect_right(self._firsts, index) - 1
        here = index - self._firsts[number]
        order = self._orders[number]
        return self._sources[number][int(order["source"][here])], int(order["sample"][here])


def _orders(
    name: str, stages: Sequence[Mixture], folder: Path
) -> tuple[list[Mapping[str, NDArray[Any]]], dict[str, int]]:
    """By stage, the source and that source's sample of each sample, [samples] each; and what a source gives in all."""
    used: dict[str, int] = {source: 0 for stage in stages for source in stage.shares}
    done = folder / f"{name}-counts.json"
    build = not done.exists()
    orders: list[Mapping[str, NDArray[Any]]] = []
    for number, stage in enumerate(stages):
        paths = {key: folder / f"{name}-stage{number}-{key}.npy" for key in ("source", "sample")}
        if build:
            source, sample = blend_order(list(stage.shares.values()), stage.samples)
            counts = np.bincount(source, minlength=len(stage.shares))
            sample += np.array([used[key] for key in stage.shares], dtype=np.int64)[source]
            np.save(paths["source"], source)
            np.save(paths["sample"], sample)
            for key, count in zip(stage.shares, counts, strict=True):
                used[key] += int(count)
        orders.append({key: np.load(path, mmap_mode="r") for key, path in paths.items()})
    if build:
        done.write_text(json.dumps(used) + "\n", encoding="utf-8")
    counts_by_source: dict[str, int] = json.loads(done.read_text(encoding="utf-8"))
    return orders, counts_by_source


def blend_order(shares: Sequence[float], samples: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Which source gives each sample and how many it gave before, [samples] each; a prefix of any longer order."""
    source, sample = np.zeros(samples, np.int16), np.arange(samples, dtype=np.int64)
    if len(shares) > 1 and samples:
        from megatron.core.datasets import helpers

        helpers.build_blending_indices(source, sample, list(shares), len(shares), samples, False)
    return source, sample


def open_block(plan: Plan, documents: Documents, samples: int, number: int, folder: Path) -> Any:
    """A GPTDataset with at least `samples` samples; its indices are built into `folder` where they are missing."""
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.utils import Split

    config = GPTDatasetConfig(
        random_seed=(plan.seed + number) % 2**32,
        sequence_length=plan.sequence_length,
        blend=([documents.prefix], None),
        split=",".join(f"{share:.9f}" for share in (*plan.split, 0)),
        path_to_cache=str(folder),
        tokenizer=DatasetTokenizer(plan),
        # Boundaries of documents are the loader's business (documents.py): Megatron-core's are dense masks.
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    indices = np.arange(documents.first, documents.end, dtype=np.int32)
    return GPTDataset(indexed(documents.prefix), documents.prefix, indices, samples, Split[documents.part], config)


def indexed(prefix: str) -> Any:
    """Megatron-core's view of a token file."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    return IndexedDataset(prefix, multimodal=False, mmap=True)


def total_tells(plan: Plan) -> int:
    """How often `open_datasets` tells what it is about to do."""
    valid = len(plan.sources) if plan.valid_samples else 0
    return 1 + len(plan.sources) + valid + sum(1 + len(m.shares) for m in plan.validation.values())


def open_datasets(plan: Plan, folder: Path, tell: Tell = lambda what: None) -> tuple[MixedDataset, dict[str, Any]]:
    """The training samples, and the validation sets by name; what is missing in `folder` is built (on rank 0)."""
    from megatron_nlg.data.plan import document_cut

    train, valid = {}, {}
    for name, source in plan.sources.items():
        cut = document_cut(source.documents, plan.split)
        train[name] = Documents(source.tokens, 0, cut, "train")
        if plan.valid_samples:
            tell(f"validation: {name}")
            rest = Documents(source.tokens, cut, source.documents, "valid")
            valid[name] = open_block(plan, rest, plan.valid_samples, 0, folder)
    for number, (name, mixture) in enumerate(plan.validation.items()):
        # Numbered, as a name may hold what a file's can't; and not "valid": the same file's split may be there.
        prefixes = plan.validation_tokens[name]
        where = {key: Documents(p, 0, len(indexed(p).sequence_lengths), "test") for key, p in prefixes.items()}
        valid[name] = MixedDataset(plan, f"validation{number}", [mixture], where, folder, tell)
    return MixedDataset(plan, "train", plan.stages, train, folder, tell), valid
