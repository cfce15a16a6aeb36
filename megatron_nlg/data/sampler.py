"""Which samples a rank takes in a step: a pure function of what has been consumed. No torch, no state."""

from __future__ import annotations

from collections.abc import Sequence


def micro_batch_samples(
    consumed_samples: int, global_batch_size: int, micro_batch_size: int, data_rank: int, data_size: int
) -> list[range]:
    """Samples of each micro-batch that a data-parallel rank takes in the step after `consumed_samples` samples.

    The step takes samples [consumed, consumed + global) and rank r the r-th of `data_size` contiguous slices of them,
    so that all ranks together see the same samples for every data-parallel size. Raises ValueError for a batch that
    can't be cut so.
    """
    share, left = divmod(global_batch_size, data_size)
    if left or share % micro_batch_size:
        raise ValueError(
            f"a global batch of {global_batch_size} can't be cut into micro-batches of {micro_batch_size} "
            f"on {data_size} replicas"
        )
    first = consumed_samples + data_rank * share
    return [range(start, start + micro_batch_size) for start in range(first, first + share, micro_batch_size)]


def past_left_out(consumed_samples: int, global_batch_size: int, left_out: Sequence[tuple[int, int]]) -> int:
    """Where a batch that would start after `consumed_samples` samples starts when ranges [first, end) are left out.

    A batch that touches a range starts at its end. `left_out` is in order.
    """
    for first, end in left_out:
        if consumed_samples < end and consumed_samples + global_batch_size > first:
            consumed_samples = end
    return consumed_samples
