"""Norms by layer equal the step's own and one rank's; the noise scale's two norms equal those of single steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.callbacks.metrics import STATISTICS as FILE
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.statistics import Statistics, noise_and_signal
from tests.megatron_nlg.training.steps import batch
from tests.tiny import tiny
from tests.world import World

BOTH = ("log.layer_statistics=1", "log.noise_scale=1")


def measured(folder: Path, steps: int, *overrides: str) -> tuple[list[float], list[Any]]:
    """Gradient norms of the first steps, and the rows that were written."""
    config = tiny("batch.global=8", *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    statistics = Statistics(config.log, engine, context, folder, 0)
    norms = []
    for step in range(1, steps + 1):
        with statistics.step(step, 8):
            norms.append(float(engine.train_step(batch(config, context, step, 8), 1e-3, step).grad_norm))
    engine.destroy()
    path = folder / FILE
    return norms, [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def alone(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Rows of one rank."""
    return world.run(1, measured, tmp_path_factory.mktemp("one"), 2, BOTH[0])[0][1]


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (8, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"),
        (4, "parallel.pipeline=2 parallel.interleave=2 parallel.recompute=full"),
        (2, "precision=bf16"),
    ],
)
def test_layers_add_up_to_the_steps_norm_and_equal_one_ranks(
    world: World, alone: list[Any], tmp_path: Path, ranks: int, overrides: str
) -> None:
    norms, rows = world.run(ranks, measured, tmp_path, 2, *BOTH, *overrides.split())[0]
    tolerance = 2e-2 if "bf16" in overrides else 1e-4
    assert [row["step"] for row in rows] == [1, 2]
    for norm, row, one in zip(norms, rows, alone, strict=True):
        assert list(row["layers"]) == ["embedding", "0", "1", "2", "3", "final norm"]
        total = sum(layer["grad_norm"] ** 2 for layer in row["layers"].values()) ** 0.5
        assert total == pytest.approx(norm, rel=tolerance)
        for name, layer in row["layers"].items():
            assert layer == pytest.approx(one["layers"][name], rel=tolerance), name
        assert "activation_rms" in row["layers"]["3"]


def replica_norms(replicas: int) -> list[float]:
    """Gradient norms of single replicas' parts of the first batch, each as a step of its own that changes nothing."""
    config = tiny("batch.global=8")
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    parts = batch(config, context, 1, 8)
    each = len(parts) // replicas
    norms = [float(engine.train_step(parts[i * each : (i + 1) * each], 0.0, 1).grad_norm) for i in range(replicas)]
    engine.destroy()
    return norms


def test_noise_scale_is_that_of_the_replicas_gradients(world: World, tmp_path: Path) -> None:
    [singles] = world.run(1, replica_norms, 4)
    norms, [row] = world.run(8, measured, tmp_path, 1, BOTH[1], "parallel.tensor=2")[0]
    noise, signal = noise_and_signal(2, sum(n * n for n in singles) / 4, 8, norms[0] ** 2)
    assert row["noise"] == pytest.approx(noise, rel=1e-4)
    assert row["signal"] == pytest.approx(signal, rel=1e-3)
    assert "layers" not in row


def test_the_estimates_are_unbiased() -> None:
    """On gradients of which mean and covariance are known."""
    draw, mean, spread, size = np.random.default_rng(0), 0.3, 2.0, 50
    pairs = []
    for _ in range(4000):
        gradients = mean + spread * draw.standard_normal((8, size))
        parts = gradients.reshape(4, 2, size).mean(axis=1)
        pairs.append(noise_and_signal(2, float((parts**2).sum() / 4), 8, float((gradients.mean(axis=0) ** 2).sum())))
    noise, signal = np.mean(pairs, axis=0)
    assert noise == pytest.approx(size * spread**2, rel=0.02)
    assert signal == pytest.approx(size * mean**2, rel=0.05)


def test_rows_beyond_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    class Main:
        is_main = True

    rows = [{"step": step, "noise": 1.0, "signal": 2.0, "noise_scale": 0.5} for step in range(1, 5)]
    (tmp_path / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    statistics: Any = Statistics(tiny(BOTH[1]).log, None, Main(), tmp_path, 2)  # type: ignore[arg-type]
    assert len((tmp_path / FILE).read_text().splitlines()) == 2
    assert list(statistics._recent) == [(1.0, 2.0)] * 2


def test_nothing_is_written_unless_asked_for(world: World, tmp_path: Path) -> None:
    assert world.run(1, measured, tmp_path, 1)[0][1] == []
    assert list(tmp_path.iterdir()) == []
