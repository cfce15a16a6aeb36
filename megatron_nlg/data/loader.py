"""Batches in order, the next ones prepared in the background. `consumed_samples` is the only state."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from megatron_nlg.data.clock import TokenClock
from megatron_nlg.data.documents import Boundaries
from megatron_nlg.data.sampler import micro_batch_samples, past_left_out

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
    """tokens and labels (int64) and loss_mask (float32), each [micro-batch, sequence], on the CPU; with `Boundaries`
    also documents and positions."""
    global_batch_size: int
    """Sequences of the step over all ranks."""
    first_sample: int
    """Samples consumed before the step."""


class Loader:
    """Reads a rank's batches from a dataset, step after step, starting after `consumed_samples` samples.

    Tensor- and pipeline-parallel peers construct it with the same arguments and read the same batches themselves.
    One thread prepares the next `prefetch` batches while the current one is trained on; what it raises is raised by
    `next`. With a `clock`, samples are cut to its lengths, and those of one step padded to the longest of them under
    the loss mask. `boundaries` marks documents. With `pinned` the thread puts batches into page-locked memory,
    from which a copy to the GPU does not wait for the GPU.
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
        prefetch: int = 1,
        clock: TokenClock | None = None,
        boundaries: Boundaries | None = None,
        left_out: Sequence[tuple[int, int]] = (),
        pinned: bool = False,
        padded_length: Callable[[int, int], int] | None = None,
    ):
        self.dataset, self.batch_schedule = dataset, batch_schedule
        self.micro_batch, self.data_rank, self.data_size = micro_batch, data_rank, data_size
        self.consumed_samples = consumed_samples
        """Samples of all batches that `next` has returned, by all ranks, and of those left out before them."""
        self.left_out = left_out
        """Samples [first, end) that are consumed without being read, in order."""
        self.clock, self.boundaries, self.pinned = clock, boundaries, pinned
        self.padded_length = padded_length
        """(first sample, samples) of a step -> tokens that are kept of each; what they lose is padding."""
        self.waited_seconds = 0.0
        """What `next` has waited for batches so far."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._prefetch = prefetch
        self._asked = consumed_samples
        """Samples of all batches that have been handed out or asked of the thread."""
        self._next: deque[Future[Batch]] = deque()
        self._fill()

    def next(self) -> Batch:
        """The next batch. Raises StopIteration after the last, and whatever reading it raised, again at each call."""
        if not self._next:
            raise StopIteration(f"no step starts after {self.consumed_samples} samples")
        begin = time.perf_counter()
        batch = self._next[0].result()
        self.waited_seconds += time.perf_counter() - begin
        self._next.popleft()
        self.consumed_samples = batch.first_sample + batch.global_batch_size
        self._fill()
        return batch

    def __iter__(self) -> Iterator[Batch]:
        """All batches that are left."""
        while self._next:
            yield self.next()

    def close(self) -> None:
        """Stop the thread; a batch it is preparing is dropped. `next` must not be called again."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._next.clear()

    def _fill(self) -> None:
        """Ask the thread for batches until enough are on their way."""
        sizes = self.batch_schedule
        while len(self._next) < self._prefetch:
            start = past_left_out(self._asked, sizes.global_batch_size(self._asked), self.left_out)
            if sizes.is_over(start):
                return
            self._next.append(self._thread.submit(self._read, start))
            self._asked = start + sizes.global_batch_size(start)

    def _read(self, consumed_samples: int) -> Batch:
        size = self.batch_schedule.global_batch_size(consumed_samples)
        parts = micro_batch_samples(consumed_samples, size, self.micro_batch, self.data_rank, self.data_size)
        # Lengths only grow: the step's last sample, on whichever rank, is its longest.
        longest = self.clock.length(consumed_samples + size - 1) if self.clock else None
        if self.padded_length:
            longest = self.padded_length(consumed_samples, size)
        return Batch([self._stack(part, longest) for part in parts], size, consumed_samples)

    def _stack(self, indices: range, longest: int | None) -> dict[str, Tensor]:
        samples = [self.dataset[i] for i in indices]
        batch = {name: torch.stack([sample[name][:longest] for sample in samples]) for name in FIELDS}
        if self.clock:
            for row, index in enumerate(indices):
                batch["loss_mask"][row, self.clock.length(index) :] = 0.0
        batch = self.boundaries.mark(batch) if self.boundaries else batch
        return {name: tensor.pin_memory() for name, tensor in batch.items()} if self.pinned else batch
