import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup.exact import first_of_equals


@given(values=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2))), scale=st.sampled_from([1, 1 << 40, 1 << 62]))
def test_first_of_equals(values: list[tuple[int, int]], scale: int) -> None:
    first = first_of_equals(np.array([(a * scale, b) for a, b in values], np.uint64).reshape(-1, 2))
    assert first.tolist() == [values.index(value) for value in values]


def test_first_of_many_equals() -> None:
    hashes = np.random.default_rng(1).integers(0, 30_000, (100_000, 1), np.uint64).repeat(2, 1)
    _, first, inverse = np.unique(hashes[:, 0], return_index=True, return_inverse=True)
    np.testing.assert_array_equal(first_of_equals(hashes * np.uint64(0x9E3779B97F4A7C15)), first[inverse])
