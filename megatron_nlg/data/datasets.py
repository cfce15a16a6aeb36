"""The training samples and the validation sets, opened on every rank.

Sample i is a pure function of (seed, stages up to it, split, sequence length, number of samples), where that number
comes from schedule.train_tokens and batch.global: the layout and the batch ramp have no say. Megatron-core's own
builder is not used: it meets its peers in barriers that a rank which failed never reaches, and writes its index files
in place, so that a kill leaves broken ones that pass for whole. Here rank 0 checks and builds (`index.py`), all ranks
learn how that went, and an index folder appears complete or not at all.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from megatron_nlg.config.errors import InputError, MegatronNlgError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.examples import Examples, ExampleSets, prepare_examples
from megatron_nlg.data.index import build_index, checked_plan
from megatron_nlg.data.mixture import MixedDataset, open_datasets
from megatron_nlg.data.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class Datasets:
    """What a run reads. A sample is a dict: tokens, labels (int64) and loss_mask (float32), each [sequence]."""

    train: MixedDataset | Examples
    """Enough samples for the whole of training, the last full step included."""
    valid: dict[str, Any]
    """Name -> evaluation.batches global batches: of each source's validation documents, and of data.validation; of task
    classification, "validation" -> all examples."""
    identity: dict[str, Any]
    """Setting -> value of all that the samples depend on."""
    eod: int
    """The tokenizer's end-of-document token."""
    about: dict[str, Any] = field(default_factory=dict)
    """What a run says of them at its start."""


def build_datasets(config: RunConfig, run_folder: Path) -> Datasets:
    """Open what the config names, building sample indices that are not there. Collective over all ranks.

    Needs torch.distributed, also in a single process. Raises the same error on every rank: InputError for a missing or
    damaged corpus, a vocabulary or split that does not fit the config, an index folder that can't be written, and a
    missing index in a job of more than data.build_index_ranks; MegatronNlgError for a full disk.
    """
    if config.task == "classification":
        return _examples(config, _agree(lambda: prepare_examples(config, run_folder)))
    plan = _agree(lambda: _prepare(config, run_folder))
    if not plan.index.is_dir():
        raise InputError(
            f"data.index_cache: {plan.index}, made by rank 0, is not there on {socket.gethostname()}; "
            "set it to a folder that all nodes share"
        )
    train, valid = open_datasets(plan, plan.index)
    return Datasets(train, valid, plan.identity, plan.tokenizer.eod)


def _examples(config: RunConfig, sets: ExampleSets) -> Datasets:
    """Labelled texts as samples, the same on every rank."""
    settings = config.data.classification
    assert settings
    multiple = config.parallel.tensor if config.parallel.sequence else 1
    train = Examples(sets.train, settings.max_length, sets.eod, multiple, config.seed)
    valid = Examples(sets.valid, settings.max_length, sets.eod, multiple)
    samples = settings.epochs * len(train)
    about = {
        "training": len(train),
        "validation": len(valid),
        "longest": int(max(sets.train.lengths.max(), sets.valid.lengths.max())),
        "truncated": [sets.train.truncated, sets.valid.truncated],
        "taken_once_more": -samples % config.batch.global_,
    }
    return Datasets(train, {"validation": valid}, sets.identity, sets.eod, about)


def _prepare(config: RunConfig, run_folder: Path) -> Plan:
    """Read and check the blends, and see to it that the index folder is there. On rank 0 only."""
    plan = checked_plan(config, run_folder)
    ranks, allowed = dist.get_world_size(), config.data.build_index_ranks
    if ranks > allowed and not plan.index.is_dir():
        raise InputError(
            f"data.build_index_ranks: the sample indices are not in {plan.index.parent}, and {ranks} ranks "
            f"(more than {allowed}) would wait for rank 0 to build them; build them first, with the same config and "
            f"overrides: megatron-nlg index CONFIG --out {run_folder}"
        )
    build_index(plan)
    return plan


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
