import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.batches import runs


@given(sizes=st.lists(st.integers(0, 30), max_size=40), run_bytes=st.integers(1, 40))
def test_every_document_once_in_order_and_none_too_many(sizes: list[int], run_bytes: int) -> None:
    found = list(runs(np.array(sizes, np.int64), run_bytes))
    assert [i for first, end in found for i in range(first, end)] == list(range(len(sizes)))
    for first, end in found:
        assert sum(sizes[first : end - 1]) <= run_bytes
