"""Rates that measurements were made of are found again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_nlg.config.cluster import Cluster, load_cluster
from megatron_nlg.planning.calibration import describe
from megatron_nlg.planning.collectives import Peers, collective_seconds
from megatron_nlg.planning.kernels import Accelerator

SHAPES = ((256, 256, 256), (512, 768, 256), (512, 256, 1024))


def measurements(gpus: int = 0, processors: int = 1) -> dict[str, Any]:
    """Of a machine of 100 GFLOP/s a core, one shape at nine tenths; 2 GB/s and 50 µs between ranks."""
    gemm = [[*shape, 2 * np.prod(shape) / 1e11 / (0.9 if i else 1)] for i, shape in enumerate(SHAPES)]
    alone = {"device": "CPU", "gemm": gemm, "gemm_fp32": gemm, "attention_flops": 4.5e10, "memory": 8e9, "stream": 1e10}
    alone["function_seconds"] = 1e-9
    rows = []
    for ranks in (2, 4, 8):
        for size in (1 << 16, 1 << 22):
            ring = 2 * (ranks - 1) * (size / ranks / 2e9 + 50e-6)
            send = 3 * (size / 2e9 + 50e-6)
            for name, seconds in (("all_reduce", ring), ("reduce_scatter", ring), ("all_gather", ring / 2)):
                rows.append([name, ranks, size, seconds, None if gpus else seconds + 1e-3 * np.log2(ranks)])
            rows.append(["send", ranks, size, send, None if gpus else 2 * send])
    return {
        "gpus": gpus,
        "cores": 2,
        "alone": alone,
        "crowded": [] if gpus else [[1, 0.1], [2, 0.1 / 0.8], [4, 0.1 / 0.7], [8, 0.1 / 0.6]],
        "kernel_seconds": 1e-5,
        "collectives": rows,
        "memory_bytes": 16 << 30,
        "processors": processors,
        "torch": "2",
        "load_average": 0.5,
    }


def described(tmp_path: Path, **options: int) -> Cluster:
    path = tmp_path / "machine.yaml"
    path.write_text(describe(measurements(**options), "2026-01-01"), encoding="utf-8")
    return load_cluster(path)


def test_a_cpu(tmp_path: Path) -> None:
    cluster = described(tmp_path)
    compute = cluster.compute
    assert compute and compute.cores == 2 and compute.kernel_us == 10
    assert (compute.cores_together, compute.cores_crowded, compute.wait_us) == pytest.approx((0.8, 0.6, 1000), rel=1e-3)
    assert (compute.memory_gbs, compute.memory_efficiency) == (10, 0.8)
    assert compute.functions_gps == pytest.approx(1)
    rates = Accelerator.of(cluster, "fp32")
    assert rates.gemm(512, 768, 256) == pytest.approx(2 * 512 * 768 * 256 / 0.9e11, rel=1e-3)
    assert compute.attention_efficiency == pytest.approx(0.5, rel=1e-3)


def test_collectives_are_those_that_were_measured(tmp_path: Path) -> None:
    cluster = described(tmp_path)
    for operation, ranks, size, seconds, _ in measurements()["collectives"]:
        if operation != "send":
            assert collective_seconds(cluster, operation, size, Peers(ranks, 1)) == pytest.approx(seconds, rel=0.02)
    assert cluster.levels[0].operations["send"] == pytest.approx(3, rel=0.01)


def test_a_gpu_has_processors_and_no_cores(tmp_path: Path) -> None:
    compute = described(tmp_path, gpus=8, processors=132).compute
    assert compute and (compute.processors, compute.cores, compute.kernel_us) == (132, None, 0)


def test_cores_are_shared() -> None:
    from megatron_nlg.config.cluster import Compute

    rates = Accelerator(1.0, Compute(memory_gbs=1, cores=4, cores_together=0.7))
    assert [rates.speed(n) for n in (1, 4, 8)] == pytest.approx([1, 0.7, 0.35])
    assert rates.speed(2) == pytest.approx(0.9)
    crowded = Accelerator(1.0, Compute(memory_gbs=1, cores=4, cores_together=0.7, cores_crowded=0.5))
    assert [crowded.speed(n) for n in (4, 8, 16, 64)] == pytest.approx([0.7, 0.6 / 2, 0.5 / 4, 0.5 / 16])
    assert Accelerator(1.0, Compute(memory_gbs=1)).speed(100) == 1


def test_more_ranks_a_core_than_were_measured_are_crowded_likewise(tmp_path: Path) -> None:
    path = tmp_path / "machine.yaml"
    for crowded, want in (([[1, 0.1], [2, 0.1], [4, 0.125]], 0.64), ([[1, 0.1], [2, 0.125]], 0.8)):
        path.write_text(describe(measurements() | {"crowded": crowded}, "2026-01-01"), encoding="utf-8")
        compute = load_cluster(path).compute
        assert compute and compute.cores_crowded == pytest.approx(want)
