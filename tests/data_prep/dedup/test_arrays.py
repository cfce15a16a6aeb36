from pathlib import Path

import numpy as np

from data_prep.dedup.arrays import load, save


def test_arrays_of_any_shape_come_back(tmp_path: Path) -> None:
    arrays = [
        np.arange(6, dtype=np.uint32).reshape(2, 3),
        np.zeros((0, 2), np.uint64),
        np.array([True]),
        np.array([1.5]),
    ]
    save(tmp_path / "a", *arrays)
    found = load(tmp_path / "a")
    assert [array.dtype for array in found] == [array.dtype for array in arrays]
    for a, b in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
