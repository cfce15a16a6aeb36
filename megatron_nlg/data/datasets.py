"""The training blend and one validation set per source, on Megatron-core's GPTDataset and BlendedDataset.

Sample i is a pure function of (seed, blend, split, sequence length, number of samples), where that number comes from
schedule.train_tokens and batch.global: the layout and the batch ramp have no say. Megatron-core's own builder is not
used: it meets its peers in barriers that a rank which failed never reaches, and writes its index files in place, so
that a kill leaves broken ones that pass for whole. Here rank 0 checks and builds, all ranks learn how that went, and
an index folder appears complete or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import torch.distributed as dist

from data_prep.blend import Blend, read_blend
from data_prep.files import sync
from megatron_nlg.config.errors import ConfigError, InputError, MegatronNlgError, Problem
from megatron_nlg.config.schema import RunConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Datasets:
    """What a run reads. A sample is a dict: tokens, labels (int64) and loss_mask (float32), each [sequence]."""

    train: Any
    """The blend: enough samples for the whole of training, the last full step included."""
    valid: dict[str, Any]
    """Source's name -> evaluation.batches global batches of its validation documents; empty when those are 0."""
    blend: Blend
    """The corpus, with absolute paths."""


class DatasetTokenizer:
    """What GPTDataset asks of a tokenizer.

    The pad id never occurs in data. With a token's own id there, GPTDataset would take that token for padding, mask
    its loss and replace it by token 0, without a word.
    """

    pad = -1

    def __init__(self, blend: Blend):
        self.eod = blend.tokenizer.eod
        self.vocab_size = blend.tokenizer.vocab_size
        self.unique_identifiers = OrderedDict(identity=blend.tokenizer.identity)


@dataclass(frozen=True)
class Plan:
    """What to build, the same on every rank."""

    blend: Blend
    split: tuple[float, float]
    sequence_length: int
    seed: int
    train_samples: int
    """Samples of the blend."""
    valid_samples: int
    """Samples of each source's validation set."""
    index: Path
    """Folder of the sample indices."""

    @property
    def weights(self) -> list[float]:
        """Share of each source in the blend's samples."""
        total = sum(source.weight for source in self.blend.sources)
        return [source.weight / total for source in self.blend.sources]


def build_datasets(config: RunConfig, run_folder: Path) -> Datasets:
    """Open the config's blend, building its sample indices when they are not there. Collective over all ranks.

    Needs torch.distributed, also in a single process. Raises the same error on every rank: InputError for a missing or
    damaged corpus, a vocabulary or split that does not fit the config, an index folder that can't be written;
    MegatronNlgError for a full disk.
    """
    plan = _agree(lambda: _prepare(config, run_folder))
    if not plan.index.is_dir():
        raise InputError(
            f"data.index_cache: {plan.index}, made by rank 0, is not there on {socket.gethostname()}; "
            "set it to a folder that all nodes share"
        )
    train, valid = _open(plan, plan.index)
    return Datasets(train, valid, plan.blend)


def _agree(function: Callable[[], T]) -> T:
    """Run `function` on rank 0 and give its result, or its error, to all ranks. Collective."""
    answer: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            answer = [function(), None]
        except MegatronNlgError as error:
            answer = [None, error]
        except Exception as error:
            dist.broadcast_object_list([None, MegatronNlgError(f"rank 0: {type(error).__name__}: {error}")], src=0)
            raise
    dist.broadcast_object_list(answer, src=0)
    result, failure = answer
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def _prepare(config: RunConfig, run_folder: Path) -> Plan:
    """Read and check the blend, and see to it that the index folder is there. On rank 0 only."""
    plan = make_plan(config, run_folder)
    problems = list(split_problems(plan))
    if problems:
        raise ConfigError(problems, str(config.data.blend))
    _build_index(plan)
    return plan


def make_plan(config: RunConfig, run_folder: Path) -> Plan:
    """Read the blend and hold it against the config; raises InputError when they do not fit."""
    if config.data.blend is None:
        raise InputError("data.blend: is required to train; set it to a prepared corpus's blend.yaml")
    blend = read_blend(Path(config.data.blend))
    if config.model.vocab_size != blend.tokenizer.vocab_size:
        raise InputError(
            f"model.vocab_size: {config.model.vocab_size} in the run config, but the tokenizer of "
            f"{config.data.blend} has {blend.tokenizer.vocab_size} entries; "
            f"set model.vocab_size={blend.tokenizer.vocab_size}"
        )
    samples = -(-config.schedule.train_tokens // config.model.sequence_length)
    plan = Plan(
        blend=blend,
        split=config.data.split,
        sequence_length=config.model.sequence_length,
        seed=config.seed % 2**32,  # numpy's range
        train_samples=samples + config.batch.global_,
        valid_samples=config.evaluation.batches * config.batch.global_,
        index=Path(),
    )
    folder = Path(config.data.index_cache) if config.data.index_cache else run_folder / "data_index"
    return Plan(**{**vars(plan), "index": folder.resolve() / _fingerprint(plan)})


def _fingerprint(plan: Plan) -> str:
    """Name of the index folder: changes with everything that the order depends on, and with the token files."""
    files = [Path(f"{source.tokens}.{end}").stat() for source in plan.blend.sources for end in ("bin", "idx")]
    what = {
        "blend": plan.blend.model_dump(mode="json"),
        "files": [(stat.st_size, stat.st_mtime_ns) for stat in files],
        "split": plan.split,
        "samples": (plan.sequence_length, plan.train_samples, plan.valid_samples),
        "seed": plan.seed,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def split_problems(plan: Plan) -> Iterator[Problem]:
    """Sources whose training or validation documents do not fill a single sample."""
    needed = plan.sequence_length + 1
    for i, source in enumerate(plan.blend.sources):
        tokens = _indexed(source.tokens)  # held here: its arrays are unmapped when it is dropped
        lengths = tokens.sequence_lengths
        cut = _cut(len(lengths), plan.split)
        for share, part, mend in (
            ("training", lengths[:cut], "raise the first share of data.split, or give the source more text"),
            (
                "validation",
                lengths[cut:] if plan.valid_samples else None,
                "raise the second share of data.split, cut the text into more documents, "
                "or set evaluation.batches to 0 to train without validation",
            ),
        ):
            if part is not None and (count := int(part.sum(dtype=np.int64))) < needed:
                yield Problem(
                    f"sources.{i} ({source.name})",
                    f"data.split {list(plan.split)} gives {len(part)} of {len(lengths)} documents with {count} tokens "
                    f"to {share}, and one sample of model.sequence_length {plan.sequence_length} takes {needed}",
                    mend,
                )


def _cut(documents: int, split: tuple[float, float]) -> int:
    """Documents [0, cut) are for training, [cut, documents) for validation (Megatron-core's rounding)."""
    return round(split[0] / sum(split) * documents)


def _build_index(plan: Plan) -> None:
    """Write the index folder under a temporary name and rename it; does nothing when it is there."""
    from rich.console import Console

    if plan.index.is_dir():
        return
    folder = plan.index.parent
    staging = folder / f".{plan.index.name}.{socket.gethostname()}.{os.getpid()}"
    try:
        staging.mkdir(parents=True)
        _remove_leftovers(folder, staging)
        with Console(stderr=True).status("building sample indices"):
            _open(plan, staging)
        for file in staging.iterdir():
            sync(file)
        sync(staging)
        try:
            staging.rename(plan.index)
        except OSError:
            if not plan.index.is_dir():  # else another job that shares the folder was first, with the same content
                raise
        sync(folder)
    except OSError as error:
        raise _index_error(error, folder) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_leftovers(folder: Path, own: Path) -> None:
    """Remove what killed builds of this host left behind."""
    for path in folder.glob(f".*.{socket.gethostname()}.*"):
        pid = path.name.rpartition(".")[2]
        if path != own and pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _index_error(error: OSError, folder: Path) -> MegatronNlgError:
    what = f"data.index_cache: the sample indices can't be written to {folder}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        return InputError(f"{what}; set data.index_cache to a folder that can be written")
    return MegatronNlgError(f"{what}; free some space, or set data.index_cache to a folder on another disk")


def _open(plan: Plan, index: Path) -> tuple[Any, dict[str, Any]]:
    """The blend and the validation sets by source; missing indices are built and written (on rank 0) to `index`."""
    from megatron.core.datasets.blended_dataset import BlendedDataset
    from megatron.core.datasets.gpt_dataset import GPTDataset
    from megatron.core.datasets.utils import Split

    config = _gpt_config(plan, index)
    train, valid = [], {}
    for source, weight in zip(plan.blend.sources, plan.weights, strict=True):
        tokens = _indexed(source.tokens)
        documents = np.arange(len(tokens.sequence_lengths), dtype=np.int32)
        cut = _cut(len(documents), plan.split)
        # The blend takes the source with the largest deficit, so a source gives at most one sample beyond its share.
        share = math.ceil(weight * plan.train_samples) + 1
        train.append(GPTDataset(tokens, source.tokens, documents[:cut], share, Split.train, config))
        if plan.valid_samples:
            valid[source.name] = GPTDataset(
                tokens, source.tokens, documents[cut:], plan.valid_samples, Split.valid, config
            )
    if len(train) == 1:
        return train[0], valid
    return BlendedDataset(train, plan.weights, plan.train_samples, config), valid


def _gpt_config(plan: Plan, index: Path) -> Any:
    from megatron.core.datasets.gpt_dataset import GPTDatasetConfig

    return GPTDatasetConfig(
        random_seed=plan.seed,
        sequence_length=plan.sequence_length,
        blend=([source.tokens for source in plan.blend.sources], plan.weights),
        split=",".join(f"{share:.9f}" for share in (*plan.split, 0)),
        path_to_cache=str(index),
        tokenizer=DatasetTokenizer(plan.blend),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )


def _indexed(prefix: str) -> Any:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    return IndexedDataset(prefix, multimodal=False, mmap=True)
