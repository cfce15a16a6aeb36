"""The GPU benchmarks at toy size, on the CPU."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.world import World


def toy_training(out: str) -> int:
    from benchmarks.train_gpu import main

    return main(["--toy", "--out", out])


def test_training_is_measured(world: World, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert world.run(1, toy_training, str(out)) == [0]
    result = json.loads(out.read_text())
    toy = result["sizes"]["toy"]
    assert toy["variants"].keys() == {"default", "not compiled", "recompute selective", "recompute full"}
    assert [row["micro_batch"] for row in toy["search"]] == [1, 2, 4]
    row = toy["variants"]["default"]
    assert row["tokens_per_second"] == pytest.approx(row["micro_batch"] * 32 / row["ms_a_step"] * 1e3, rel=0.01)
    assert row["model_tflops"] == pytest.approx(
        toy["model_flops_per_token"] * row["tokens_per_second"] / 1e12, abs=0.01
    )
    assert row["kernels"]["attention"] == "torch SDPA"
    assert toy["peers"]["nanoGPT"]["our_speed_over_its"] > 0
    assert result["machine"]["torch"]


def out_of_memory(fits: int) -> tuple[list[int], str | int]:
    """Micro-batches found by the search, and the one a variant ends with, when larger ones than `fits` do not fit."""
    import torch

    from benchmarks.train_gpu import Bench

    class Small(Bench):
        def batches(self, micro: int) -> list[dict[str, torch.Tensor]]:
            self.micro = micro
            return super().batches(micro)

        def milliseconds(self, step: Any, steps: int) -> list[float]:
            if self.micro > fits:
                raise torch.OutOfMemoryError("planted")
            return super().milliseconds(step, steps)

    bench = Small("toy", 3, 1, 1024)
    row = bench.variant("default", 8)
    return [found["micro_batch"] for found in bench.search()], row.get("failed", row.get("micro_batch"))


@pytest.mark.parametrize(("fits", "found"), [(4, ([1, 2, 4], 4)), (0, ([], "out of memory"))])
def test_what_does_not_fit_ends_the_search(world: World, fits: int, found: Any) -> None:
    assert world.run(1, out_of_memory, fits) == [found]


def test_host_synchronisations_are_counted_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks.train_gpu import synchronisations

    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step() -> None:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    [(place, times)] = synchronisations(step).items()
    assert place.startswith("benchmarks/test_gpu.py:")
    assert (times, modes) == (3, ["warn", "default"])


def toy_equality(out: str) -> int:
    from benchmarks.equality_gpu import main

    return main(["--toy", "--out", out])


def test_curves_are_compared(world: World, tmp_path: Path) -> None:
    from benchmarks.equality_gpu import compare

    out = tmp_path / "result.json"
    assert world.run(1, toy_equality, str(out)) == [0]
    result = json.loads(out.read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert len(rows) == 8
    assert rows["GPT, bf16, default"]["loss_to_cpu_fp32"] > 1e-5, "bf16 would be fp32"
    gpu: dict[str, Any] = {name: {key: row[key] for key in ("loss", "grad_norm")} for name, row in rows.items()}
    for value, equal in ((1.00005, True), (1.001, False), (float("nan"), False)):
        off = copy.deepcopy(gpu)
        off["GPT, fp32, default"]["loss"][-1] *= value
        verdicts = {row["name"]: row["equal"] for row in compare(result["cpu"], off)}
        assert verdicts.pop("GPT, fp32, default") is equal
        assert all(verdicts.values())
