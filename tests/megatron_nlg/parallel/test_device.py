"""Each CPU shim is still needed, and still enough.

A shim is replaced by a tripwire and the code that is said to need it is run: when a new Megatron-core or DeepSpeed no
longer goes through it, no tripwire goes off and the test fails, so that the shim can be removed.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from megatron_nlg.parallel import device
from megatron_nlg.parallel.device import CPU_SHIMS, MCORE_RANDOM, SCHEDULES, select_device
from tests.megatron_nlg.training.steps import train
from tests.tiny import tiny
from tests.world import World


class TripwireError(Exception):
    """The library came by."""


def trip(*_: Any, **__: Any) -> Any:
    raise TripwireError


def step_without(shim: str, *overrides: str) -> str:
    """Run one step with a shim turned into a tripwire; says what happened."""
    places: dict[str, tuple[Any, str, Any]] = {
        "current_device": (torch.cuda, "current_device", trip),
        "schedules_zeros": (importlib.import_module(SCHEDULES), "torch", torch),
        "recompute_rng": (importlib.import_module(MCORE_RANDOM), "_get_cuda_rng_state", trip),
    }
    module, name, replacement = places[shim]
    kept = getattr(module, name)
    setattr(module, name, replacement)
    device.CPU_SHIMS = tuple(s for s in CPU_SHIMS if s.name != shim)
    try:
        train(tiny(*overrides), 1)
    except (TripwireError, AssertionError, RuntimeError) as error:
        return type(error).__name__
    finally:
        setattr(module, name, kept)
        device.CPU_SHIMS = CPU_SHIMS
    return "no error"


@pytest.mark.parametrize(
    ("shim", "ranks", "overrides", "raised"),
    [
        ("current_device", 1, [], "TripwireError"),
        ("schedules_zeros", 1, [], "AssertionError"),
        ("recompute_rng", 1, ["parallel.recompute=full"], "TripwireError"),
    ],
)
def test_shim_is_needed(world: World, shim: str, ranks: int, overrides: list[str], raised: str) -> None:
    assert world.run(ranks, step_without, shim, *overrides) == [raised] * ranks


def shm_builder_is_asked() -> tuple[bool, bool]:
    from deepspeed.accelerator import get_accelerator

    backend: Any = importlib.import_module("deepspeed.comm.torch")
    ops = vars(importlib.import_module("deepspeed.ops"))
    original: Callable[..., Any] = type(get_accelerator()).create_op_builder

    class Builder:
        NAME = "deepspeed_shm_comm"
        load = staticmethod(trip)

    type(get_accelerator()).create_op_builder = lambda self, name: Builder
    try:
        with_shim = backend.build_shm_op() is None
        kept, ops["__compatible_ops__"] = ops["__compatible_ops__"], {Builder.NAME: True}
        try:
            backend.build_shm_op()
            tripped = False
        except TripwireError:
            tripped = True
        ops["__compatible_ops__"] = kept
    finally:
        type(get_accelerator()).create_op_builder = original
    return with_shim, tripped


def test_deepspeed_would_compile_its_shared_memory_op(world: World) -> None:
    assert world.run(1, shm_builder_is_asked) == [(True, True)]


@pytest.mark.slow
def test_deepspeed_is_told_the_accelerator() -> None:
    script = "import deepspeed; from deepspeed.accelerator import get_accelerator; print(get_accelerator()._name)"
    environment = {k: v for k, v in os.environ.items() if k != "DS_ACCELERATOR"}
    without = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    with_shim = subprocess.run(
        [sys.executable, "-c", "from megatron_nlg.parallel.device import select_device; select_device(); " + script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "unable to detect it" in without.stdout + without.stderr
    assert "unable to detect it" not in with_shim.stdout + with_shim.stderr
    assert with_shim.stdout.strip().endswith("cpu")


def test_every_shim_has_a_reason_and_a_test() -> None:
    tested = {"current_device", "schedules_zeros", "recompute_rng", "deepspeed_shm", "deepspeed_accelerator"}
    assert {shim.name for shim in CPU_SHIMS} == tested
    assert all(len(shim.reason) > 20 for shim in CPU_SHIMS)


def test_device_on_this_machine() -> None:
    here = select_device()
    assert (here.torch.type, here.backend, here.batched_p2p) in [("cpu", "gloo", False), ("cuda", "nccl", True)]
    assert here.peak_memory_bytes() > 2**20
