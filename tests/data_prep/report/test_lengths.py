import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.report.lengths import BINS, add_up, count_lengths, edge_labels, trimmed


@given(lengths=st.lists(st.integers(0, 2**31), max_size=30))
def test_every_length_lies_in_its_bin(lengths: list[int]) -> None:
    counts = count_lengths(np.array(lengths, np.int64))
    assert counts.sum() == len(lengths)
    for k in range(BINS):
        low, high = 2 ** (k / 2) if k else 0, 2 ** ((k + 1) / 2)
        assert counts[k] == sum(low <= length < high for length in lengths)
    assert add_up([counts.tolist(), counts.tolist()]) == (2 * counts).tolist()


def test_empty_ends_are_not_shown() -> None:
    a, b = [0] * BINS, [0] * BINS
    a[3], b[6] = 5, 7
    first, shown = trimmed({"a": a, "b": b})
    assert (first, shown) == (3, {"a": [5, 0, 0, 0], "b": [0, 0, 0, 7]})
    assert edge_labels(first, 4) == ["3", "4", "6", "8"]
    assert trimmed({"a": [0] * BINS}) == (0, {"a": [0]})
