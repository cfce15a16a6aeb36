"""FLOPs against the published formula and table, peaks, and the header."""

from __future__ import annotations

import pytest

from megatron_nlg.config.schema import Model
from megatron_nlg.planning.flops import model_flops_per_token
from megatron_nlg.training.throughput import Throughput, peak_tflops
from tests.tiny import tiny

MT_NLG = Model(
    num_layers=105,
    hidden_size=20480,
    num_attention_heads=128,
    sequence_length=2048,
    vocab_size=50257,
    vocab_multiple=1024,
)


def published(model: Model, factor: int) -> float:
    """FLOPs per token: 96 with full recomputation, 72 without (Narayanan et al. 2021, equation 3)."""
    layers, h, s, v = model.num_layers, model.hidden_size, model.sequence_length, model.padded_vocab_size
    return factor * layers * h**2 * (1 + s / (6 * h) + v / (factor / 6 * layers * h))


def test_flops_are_the_published_formula() -> None:
    assert model_flops_per_token(MT_NLG) == pytest.approx(published(MT_NLG, 72), rel=1e-12)


def test_mt_nlg_iteration_time_gives_the_published_tflops() -> None:
    """2240 GPUs take a batch of 1920 in 60.1 s at 126 TFLOP/s each, counted with recomputation (MT-NLG, table 2)."""
    config = tiny("log.peak_tflops=312").model_copy(update={"model": MT_NLG})
    ours = Throughput(config, 2240, "NVIDIA A100").model_tflops_per_gpu(1920 * 2048, 60.1)
    assert ours * published(MT_NLG, 96) / published(MT_NLG, 72) == pytest.approx(126, abs=0.5)


def test_another_mlp_width_counts_its_own_matrices() -> None:
    narrow = MT_NLG.model_copy(update={"ffn_hidden_size": 2 * 20480})
    assert model_flops_per_token(MT_NLG) - model_flops_per_token(narrow) == 6 * 105 * 2 * 20480 * 2 * 20480


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("cpu", None),
    ],
)
def test_peak_by_device_name(name: str, peak: float | None) -> None:
    assert peak_tflops(name, "bf16") == peak
    assert peak_tflops(name, "fp32") is None


def test_mfu_and_header_say_what_was_assumed() -> None:
    known = Throughput(tiny("precision=bf16"), 8, "NVIDIA H200")
    assert known.mfu(494.5) == 0.5
    assert "assumed peak 989 TFLOP/s each (dense bf16, data sheet)" in known.header()
    assert "72·L·h²·(1 + s/(6h) + V/(12Lh))" in known.header()
    unknown = Throughput(tiny(), 8, "cpu")
    assert unknown.mfu(1.0) is None
    assert "no MFU (log.peak_tflops sets it)" in unknown.header()
    given = Throughput(tiny("log.peak_tflops=2.5"), 1, "cpu")
    assert given.mfu(0.5) == 0.2
    assert "assumed peak 2.5 TFLOP/s each (log.peak_tflops)" in given.header()


def test_short_samples_take_fewer_operations() -> None:
    throughput = Throughput(tiny(), 1, "cpu")
    whole, short = (throughput.model_tflops_per_gpu(10**6, 1.0, length) for length in (None, 8))
    assert throughput.model_tflops_per_gpu(10**6, 1.0, 32) == whole
    assert (whole - short) * 1e12 == pytest.approx(12 * 4 * 64 * (32 - 8) * 10**6)


def test_a_classifier_has_no_logits() -> None:
    settings = "data.classification={train: t.tsv, labels: [a, b], max_length: 32}"
    classifier = Throughput(tiny("task=classification", settings), 1, "cpu")
    both = [throughput.model_tflops_per_gpu(10**6, 1.0) for throughput in (Throughput(tiny(), 1, "cpu"), classifier)]
    assert both[0] - both[1] == pytest.approx(6 * 64 * 256 / 1e6)  # 6·h·V a token
    assert "a classifier has no logits, V = 0" in classifier.header()
