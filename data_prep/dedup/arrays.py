"""Several arrays in one file, written atomically and mapped when read: pages that nobody looks at are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from data_prep.files import replacing


def save(path: Path, *arrays: NDArray[Any]) -> None:
    """One .npy after the other."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        for array in arrays:
            npy.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def load(path: Path) -> list[NDArray[Any]]:
    """The arrays of `save`; read-only. One file stays open until all of them are gone."""
    arrays = []
    with path.open("rb") as stream:
        content = np.memmap(stream, np.uint8, "r")
        stream.seek(0)
        while stream.tell() < len(content):
            npy.read_magic(stream)
            shape, _, kind = npy.read_array_header_1_0(stream)
            begin = stream.tell()
            end = begin + kind.itemsize * int(np.prod(shape))
            arrays.append(content[begin:end].view(kind).reshape(shape))
            stream.seek(end)
    return arrays
