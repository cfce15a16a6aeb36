"""Runs to their end: the ramp's levels, Daly's interval, curves of scaling."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.cluster import Cluster, load_cluster
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.validate import load_config
from megatron_nlg.planning.forecast import HOUR, checkpoint_bytes, failures, forecast, scaling
from megatron_nlg.planning.prediction import Prediction, predict
from megatron_nlg.planning.step import StepModel
from megatron_nlg.training.schedule import BatchSchedule


@pytest.fixture(scope="module")
def selene() -> Cluster:
    return load_cluster(Path("configs/clusters/selene.yaml"))


@pytest.fixture(scope="module")
def mt_nlg(selene: Cluster) -> Prediction:
    config = load_config(Path("configs/runs/mt_nlg_530b.yaml"), ["parallel.pipeline=7", "batch.ramp.tokens=100e9"])
    return predict(config, selene, 448, 8)


def test_the_ramps_levels_are_those_of_the_simulation(mt_nlg: Prediction, selene: Cluster) -> None:
    batches = BatchSchedule(mt_nlg.config, mt_nlg.layout.data)
    sizes = batches.steps_by_level(batches.train_samples)
    run = forecast(mt_nlg, selene, sizes)
    model = StepModel(mt_nlg.config, selene, 448)
    for level in run.levels[::7]:
        exact = model.step(level.sequences // mt_nlg.layout.data).seconds
        assert level.step_seconds == pytest.approx(exact, rel=0.02)
    assert run.levels[-1].step_seconds == mt_nlg.step_seconds
    assert sum(level.steps for level in run.levels) == batches.total_steps
    assert run.tokens == pytest.approx(270e9, rel=1e-3)
    assert run.gpu_hours == pytest.approx(run.days * 24 * 448)
    assert run.tokens_per_day * run.days == pytest.approx(run.tokens)


@given(st.floats(1000, 1e6), st.floats(1, 1000), st.floats(0, 3600))
def test_no_other_interval_loses_less(mt_nlg: Prediction, mtbf_hours: float, write_gbs: float, restart: float) -> None:
    found = failures(mt_nlg, 56, mtbf_hours, write_gbs, restart)
    mean, write = mtbf_hours * HOUR / 56, checkpoint_bytes(mt_nlg.config) / write_gbs / 1e9

    def lost(interval: float) -> float:
        return 1 - interval / (mean * math.exp(restart / mean) * math.expm1((interval + write) / mean))

    taken = found.interval_steps * mt_nlg.step_seconds
    assert found.lost == pytest.approx(lost(taken))
    assert found.interval_seconds == taken
    if found.interval_steps >= 20:  # fewer are far from the interval, which whole steps must be near
        assert all(found.lost <= lost(taken * factor) + 2e-3 for factor in (0.5, 0.8, 1.25, 2))
        if write < mean / 1000:  # Young's
            assert taken == pytest.approx(math.sqrt(2 * write * mean), rel=0.05)


def test_a_checkpoint_holds_weights_masters_and_moments(mt_nlg: Prediction) -> None:
    assert checkpoint_bytes(mt_nlg.config) == pytest.approx(529.6e9 * 14, rel=1e-3)
    with pytest.raises(InputError, match="never ends"):
        failures(mt_nlg, 56, 0.1, 1, 600)


def test_curves_of_scaling_go_through_the_layout(mt_nlg: Prediction, selene: Cluster) -> None:
    strong, weak = (scaling(mt_nlg, selene, 8, weak) for weak in (False, True))
    for points in (strong, weak):
        assert [point.nodes for point in points] == [7, 14, 28, 56, 112, 224, 448]
        assert points[3].efficiency == pytest.approx(1)
        assert points[3].step_seconds == pytest.approx(mt_nlg.step_seconds)
    assert {point.sequences for point in strong} == {1920}
    assert [point.sequences for point in weak] == [240, 480, 960, 1920, 3840, 7680, 15360]
    assert [point.efficiency for point in strong] == sorted((p.efficiency for p in strong), reverse=True)
    assert weak[-1].efficiency > strong[-1].efficiency
