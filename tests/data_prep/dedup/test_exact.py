import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dedup.exact import content_hash, first_of_equals


def test_hash_ignores_case_white_space_and_composition_only() -> None:
    assert content_hash("The  SEA\n") == content_hash("the sea")
    assert content_hash("e\u0301") == content_hash("é")
    assert content_hash("the sea") != content_hash("thesea")


@given(values=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2))))
def test_first_of_equals(values: list[tuple[int, int]]) -> None:
    first = first_of_equals(np.array(values, np.uint64).reshape(-1, 2))
    assert first.tolist() == [values.index(value) for value in values]
