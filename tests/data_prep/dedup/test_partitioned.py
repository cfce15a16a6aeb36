from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.dedup import partitioned
from data_prep.dedup.fuzzy import find_duplicates as in_memory
from data_prep.dedup.partitioned import Shards, find_duplicates
from data_prep.execution.local import Local
from data_prep.jobs import Job
from data_prep.recipe import Dedup
from data_prep.shards import Document, write_shard
from tests.data_prep.material import variants

TEXTS = [*variants(150, seed=4), "", "???", *variants(150, seed=5), *variants(20, seed=4)]


def write(folder: Path, size: int) -> Shards:
    folder.mkdir()
    parts = [TEXTS[i : i + size] for i in range(0, len(TEXTS), size)]
    paths = {f"s-{i}": folder / f"s-{i}.parquet" for i in range(len(parts))}
    for path, texts in zip(paths.values(), parts, strict=True):
        write_shard(path, [Document(str(i), text, "s") for i, text in enumerate(texts)])
    return Shards(paths, np.array([0, *accumulate(map(len, parts))]))


@pytest.mark.parametrize(
    ("size", "change"),
    [
        (1000, {}),
        (50, {}),
        (33, {"exact": False, "clusters": "connected"}),
        (7, {"fuzzy": False}),
        (50, {"shingle_characters": 12, "num_perm": 96, "bands": 24, "rows": 4}),
    ],
)
def test_the_verdict_is_that_of_one_array_in_memory(
    tmp_path: Path, size: int, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Dedup.model_validate({"threshold": 0.6, "num_perm": 64, "bands": 16, "rows": 4, **change})
    expected = in_memory(pa.array(TEXTS), rules, seed=3)
    monkeypatch.setattr(partitioned, "_PAIRS", 10)
    monkeypatch.setattr(partitioned, "_UNIT_KEYS", 500)
    monkeypatch.setattr(partitioned, "_KEY_BYTES", 5 * rules.memory // len(TEXTS) if size == 50 else 1)
    found = find_duplicates(Job(tmp_path, Local(1)), tmp_path / "work", write(tmp_path / "shards", size), rules, seed=3)
    assert found.cluster.tolist() == expected.cluster.tolist()
    assert found.keep.tolist() == expected.keep.tolist()
    assert found.summary == expected.summary
    assert (tmp_path / "work" / ("8-ranges" if size == 50 else "1-ranges")).is_dir()


def test_units_that_are_done_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write(tmp_path / "shards", 50)
    rules = Dedup(num_perm=64, bands=16, rows=4)
    first = find_duplicates(Job(tmp_path, Local(1)), tmp_path / "work", shards, rules, seed=3)

    def never(*_: object) -> None:
        raise AssertionError("a unit ran again")

    for name in ("sign_unit", "bands_unit", "sets_unit", "compare_unit"):
        monkeypatch.setattr(partitioned, name, never)
    again = find_duplicates(Job(tmp_path, Local(1)), tmp_path / "work", shards, rules, seed=3)
    assert again.summary == first.summary
