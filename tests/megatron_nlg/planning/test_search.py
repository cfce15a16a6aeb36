"""The search on a published run, and its estimates against the simulation."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.config.cluster import Cluster, load_cluster
from megatron_nlg.config.errors import ConfigError
from megatron_nlg.config.validate import data_parallel_size, load_config
from megatron_nlg.planning.prediction import predict
from megatron_nlg.planning.search import estimate, no_room, peak_memory, search


@pytest.fixture(scope="module")
def selene() -> Cluster:
    return load_cluster(Path("configs/clusters/selene.yaml"))


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
    found = search(odd, selene, 64, 8)
    assert found.own is None
    with pytest.raises(ConfigError):
        predict(odd, selene, 64, 8)
    assert data_parallel_size(found.ranked[0].config, 64)
