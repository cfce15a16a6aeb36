"""All ranks together take every sample of a step once, whatever the data-parallel size."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.data.sampler import micro_batch_samples, past_left_out


def test_contiguous_slices_in_micro_batches() -> None:
    assert micro_batch_samples(100, 8, 2, 0, 2) == [range(100, 102), range(102, 104)]
    assert micro_batch_samples(100, 8, 2, 1, 2) == [range(104, 106), range(106, 108)]


@given(
    consumed=st.integers(0, 10**12),
    micro=st.integers(1, 5),
    data=st.integers(1, 6),
    count=st.integers(1, 5),
)
def test_ranks_partition_the_step_in_order(consumed: int, micro: int, data: int, count: int) -> None:
    size = micro * data * count
    parts = [micro_batch_samples(consumed, size, micro, rank, data) for rank in range(data)]
    assert all(len(part) == count and all(len(m) == micro for m in part) for part in parts)
    assert list(chain.from_iterable(chain.from_iterable(parts))) == list(range(consumed, consumed + size))


@pytest.mark.parametrize(("size", "micro", "data"), [(7, 1, 2), (8, 3, 2)])
def test_a_batch_that_cannot_be_cut_is_refused(size: int, micro: int, data: int) -> None:
    with pytest.raises(ValueError, match=f"a global batch of {size} can't be cut into micro-batches of {micro}"):
        micro_batch_samples(0, size, micro, 0, data)


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda r: (r[0], r[0] + r[1])), max_size=5),
)
def test_no_batch_has_a_sample_that_is_left_out(size: int, ranges: list[tuple[int, int]]) -> None:
    left_out = {i for first, end in ranges for i in range(first, end)}
    consumed, read = 0, []
    while consumed < 80:
        consumed = past_left_out(consumed, size, sorted(ranges))
        read += range(consumed, consumed + size)
        consumed += size
    assert left_out.isdisjoint(read) and read == sorted(set(read))
    # Where ranges are made of whole batches, as they are, nothing else is lost.
    whole = sorted((first * size, end * size) for first, end in ranges)
    starts = [i * size for i in range(80) if all(not first <= i < end for first, end in ranges)]
    got, consumed = [], 0
    while consumed < 80 * size:
        consumed = past_left_out(consumed, size, whole)
        got.append(consumed)
        consumed += size
    assert [start for start in got if start < 80 * size] == starts
