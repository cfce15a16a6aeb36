"""Batches in order, the next one prepared in the background. `consumed_samples` is the only state."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from megatron_nlg.data.sampler import micro_batch_samples

FIELDS = ("tokens", "labels", "loss_mask")


class Samples(Protocol):
    """A dataset: sample i is a dict with tokens, labels and loss_mask, each [sequence]."""

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class BatchSizes(Protocol):
    """How large the batches are and where they end: `training.schedule.BatchSchedule` or `FixedBatches`."""

    def global_batch_size(self, consumed_samples: int) -> int:
        """Sequences in the step that starts here."""
        ...

    def is_over(self, consumed_samples: int) -> bool:
        """Whether no step starts here."""
        ...


@dataclass(frozen=True)
class Batch:
    """What one rank takes in one step."""

    micro_batches: list[dict[str, Tensor]]
    """tokens and labels (int64) and loss_mask (float32), each [micro-batch, sequence], on the CPU."""
    global_batch_size: int
    """Sequences of the step over all ranks."""


class Loader:
    """Reads a rank's batches from a dataset, step after step, starting after `consumed_samples` samples.

    Tensor- and pipeline-parallel peers construct it with the same arguments and read the same batches themselves.
    One thread prepares the next batch while the current one is trained on; what it raises is raised by `next`.
    """

    def __init__(
        self,
        dataset: Samples,
        batch_schedule: BatchSizes,
        *,
        micro_batch: int,
        data_rank: int,
        data_size: int,
        consumed_samples: int = 0,
    ):
        self.dataset, self.batch_schedule = dataset, batch_schedule
        self.micro_batch, self.data_rank, self.data_size = micro_batch, data_rank, data_size
        self.consumed_samples = consumed_samples
        """Samples of all batches that `next` has returned, by all ranks."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._next: Future[Batch] | None = None
        self._prefetch()

    def next(self) -> Batch:
        """The next batch. Raises StopIteration after the last, and whatever reading it raised, again at each call."""
        if self._next is None:
            raise StopIteration(f"no step starts after {self.consumed_samples} samples")
        batch = self._next.result()
        self.consumed_samples += batch.global_batch_size
        self._prefetch()
        return batch

    def __iter__(self) -> Iterator[Batch]:
        """All batches that are left."""
        while self._next is not None:
            yield self.next()

    def close(self) -> None:
        """Stop the thread; a batch it is preparing is dropped. `next` must not be called again."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._next = None

    def _prefetch(self) -> None:
        over = self.batch_schedule.is_over(self.consumed_samples)
        self._next = None if over else self._thread.submit(self._read, self.consumed_samples)

    def _read(self, consumed_samples: int) -> Batch:
        size = self.batch_schedule.global_batch_size(consumed_samples)
        parts = micro_batch_samples(consumed_samples, size, self.micro_batch, self.data_rank, self.data_size)
        return Batch([self._stack(part) for part in parts], size)

    def _stack(self, indices: range) -> dict[str, Tensor]:
        samples = [self.dataset[i] for i in indices]
        return {name: torch.stack([sample[name] for sample in samples]) for name in FIELDS}
