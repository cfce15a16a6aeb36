"""The search against the rules of `config/validate.py`, and its estimates against the simulation."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from megatron_nlg.config.cluster import Cluster, load_cluster
from megatron_nlg.config.errors import ConfigError
from megatron_nlg.config.validate import consistency, data_parallel_size, load_config, rank_problems
from megatron_nlg.planning.prediction import predict
from megatron_nlg.planning.search import estimate, layouts, no_room, peak_memory, reasons, search
from tests.tiny import tiny

RANKS = 16


@pytest.fixture(scope="module")
def selene() -> Cluster:
    return load_cluster(Path("configs/clusters/selene.yaml"))


def test_all_legal_layouts_and_no_others() -> None:
    """Against every combination of the settings, held against the rules one by one."""
    illegal: Counter[str] = Counter()
    config = tiny("batch.global=32", "model.num_layers=6")
    found = [
        (p.tensor, p.pipeline, p.interleave, p.sequence, p.zero_stage, p.recompute, layout.batch.micro)
        for layout in layouts(config, RANKS, "this", illegal)
        for p in [layout.parallel]
    ]
    wanted = set()
    sizes, modes = (1, 2, 4, 8, 16), ("none", "full")
    for values in product(sizes, sizes, (1, 2, 3, 6), (False, True), (1, 2, 3), modes, (1, 2, 4, 8, 16, 32)):
        names = ("tensor", "pipeline", "interleave", "sequence", "zero_stage", "recompute")
        pairs = [f"parallel.{name}={str(value).lower()}" for name, value in zip(names, values, strict=False)]
        one = tiny("batch.global=32", "model.num_layers=6", *pairs, f"batch.micro={values[-1]}")
        if not [*consistency(one), *rank_problems(one, RANKS)]:
            wanted.add(values)
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert sum(count for _, count, _ in reasons(illegal)) == sum(illegal.values()) > 0
    assert any(key == "model.num_layers" for key, _, _ in reasons(illegal))


def test_published_layout_of_mt_nlg_is_the_best_of_its_software(selene: Cluster) -> None:
    config = load_config(Path("configs/runs/mt_nlg_530b.yaml"))
    found = search(config, selene, 2240, 8, "megatron-deepspeed-2022")
    assert found.own
    assert found.ranked[0].config.parallel == found.own.config.parallel
    assert all(row.fits for row in found.ranked)
    assert all(row.peak_memory_gib > 80 for row in found.unfit)
    assert "GiB of 80" in found.excess(found.misses[0])
    for row in found.ranked:
        assert estimate(row.config, selene, 2240, row.stack) == pytest.approx(row.step_seconds, rel=0.06)
        stage, peak = peak_memory(row.config, selene, 2240, row.stack)
        assert (stage, peak) == (row.fullest, pytest.approx(row.peak_memory_gib))


def test_less_memory_leaves_fewer_and_slower_layouts(selene: Cluster) -> None:
    config = load_config(Path("configs/runs/gpt3_13b.yaml"))
    wide, narrow = (search(config, selene, 64, 8, memory_gib=size) for size in (80, 16))
    assert narrow.fitting < wide.fitting
    assert narrow.fitting + len(narrow.unfit) == wide.fitting + len(wide.unfit)
    assert narrow.ranked[0].step_seconds >= wide.ranked[0].step_seconds
    with pytest.raises(type(no_room(narrow)), match="GiB of 1"):
        raise no_room(search(config, selene, 64, 8, memory_gib=1))


def test_a_layout_that_is_not_legal_has_no_prediction(selene: Cluster) -> None:
    config = load_config(Path("configs/runs/gpt3_13b.yaml"))
    odd = config.model_copy(update={"parallel": config.parallel.model_copy(update={"pipeline": 16, "tensor": 8})})
    assert search(odd, selene, 64, 8).own is None
    with pytest.raises(ConfigError):
        predict(odd, selene, 64, 8)
    assert data_parallel_size(search(odd, selene, 64, 8).ranked[0].config, 64)
