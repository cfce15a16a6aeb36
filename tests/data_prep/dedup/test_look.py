from pathlib import Path

import numpy as np
import pytest

from data_prep.dedup.look import Found, describe, draw, found_in, largest
from data_prep.dedup.partitioned import Shards
from data_prep.jobs import Done
from data_prep.shards import Document, write_shard
from megatron_nlg.config.errors import InputError


def found(folder: Path, cluster: list[int], about: dict[str, object]) -> Found:
    documents = [Document(f"id{i}", f"text {i} \n" * 100, "s") for i in range(len(cluster))]
    write_shard(folder / "s.parquet", documents)
    done = Done("dedup", "key", folder, {"clusters": about}, was_done=True)
    keep = np.array(cluster) == np.arange(len(cluster))
    return Found(done, Shards({"s": folder / "s.parquet"}, np.array([0, len(cluster)])), np.array(cluster), keep)


def test_the_largest_clusters_first(tmp_path: Path) -> None:
    result = found(tmp_path, [0, 1, 1, 3, 1, 3, 6, *[7] * 12], {"clusters": 3})
    assert [group.tolist() for group in largest(result, 9)] == [list(range(7, 19)), [1, 2, 4], [3, 5]]
    lines = list(describe(result, 2))
    assert lines[0] == "cluster 1 of 3: 12 documents"
    assert lines[1] == "  kept    id7"
    assert lines[2].startswith("    text 7 text 7") and lines[2].endswith("… (699 characters)")
    assert "  and 2 more" in lines
    assert lines[-2].startswith("    text 4 ")
    assert list(describe(found(tmp_path, [0, 1], {"clusters": 0}), 2)) == ["no two documents are near"]


@pytest.mark.parametrize("curve", [{}, {"bands": 16, "rows": 8}])
@pytest.mark.parametrize("sizes", [{}, {"2": 3, "7": 1}, {"2": 90_000, "5000": 1}])
def test_the_picture(tmp_path: Path, curve: dict[str, int], sizes: dict[str, int]) -> None:
    about = {"clusters": 4, "sizes": sizes, "threshold": 0.8, "similarity": [0] * 40 + [3] * 10, **curve}
    draw(found(tmp_path, [0], about), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_deduplication(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished deduplication"):
        found_in(tmp_path)
