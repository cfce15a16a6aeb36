"""Times of single kernels."""

import pytest

from megatron_nlg.config.cluster import Cluster, Compute
from megatron_nlg.config.errors import InputError
from megatron_nlg.planning.kernels import Accelerator

GPU = Cluster(
    name="one",
    nodes=1,
    gpus_per_node=1,
    peak_tflops=300,
    compute=Compute(memory_gbs=2000, processors=100, gemm_efficiency=0.8, memory_efficiency=0.5, fp32_tflops=20),
)


def test_a_large_product_runs_at_the_efficiency() -> None:
    seconds = Accelerator.of(GPU, "bf16").gemm(12800, 12800 * 2, 16384)
    assert 2 * 12800 * 25600 * 16384 / seconds == pytest.approx(0.8 * 300e12, rel=0.01)


def test_one_tile_more_than_a_wave_holds_is_another_wave() -> None:
    accelerator = Accelerator.of(GPU, "bf16")
    full, one_more = accelerator.gemm(1280, 2560, 4096), accelerator.gemm(1280, 2561, 4096)
    assert one_more > 1.1 * full


def test_bytes_and_precisions() -> None:
    assert Accelerator.of(GPU, "bf16").memory(1e9) == pytest.approx(1e-3)
    ratio = Accelerator.of(GPU, "fp32").gemm(4096, 4096, 4096) / Accelerator.of(GPU, "bf16").gemm(4096, 4096, 4096)
    assert ratio == pytest.approx(15)


def test_a_cluster_without_rates() -> None:
    with pytest.raises(InputError, match=r"one: peak_tflops and compute are needed"):
        Accelerator.of(GPU.model_copy(update={"compute": None}), "bf16")
