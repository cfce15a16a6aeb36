"""CUDA with NCCL, or the CPU with gloo: decided here and nowhere else.

Megatron-core and DeepSpeed assume CUDA in a few places. Each of them has one shim below, applied on the CPU only, with
its reason; `tests/megatron_nlg/parallel/test_device.py` fails when a new version no longer needs one or breaks it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import platform
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

SCHEDULES = "megatron.core.pipeline_parallel.schedules"
MCORE_RANDOM = "megatron.core.tensor_parallel.random"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


@dataclass(frozen=True)
class Device:
    """What this process computes on and talks through."""

    torch: torch.device
    """Where tensors live."""
    backend: str
    """Communication backend of every process group."""
    name: str
    """The accelerator's product name, or the processor's."""
    batched_p2p: bool
    """Whether sends and receives may be issued as one batch: on gloo that trains silently wrong."""

    @property
    def pins_memory(self) -> bool:
        """Whether copies to the device go on by themselves when they come from page-locked memory."""
        return self.torch.type == "cuda"

    def peak_memory_bytes(self) -> int:
        """Largest memory this process has held: allocator's on CUDA, resident set on the CPU."""
        if self.torch.type == "cuda":
            return torch.cuda.max_memory_allocated(self.torch)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class Shim:
    """One place where a library needs to be told that there is no CUDA."""

    name: str
    reason: str
    apply: Callable[[], None]


def select_device(local_rank: int = 0, local_ranks: int = 1) -> Device:
    """The local rank's GPU where torch sees one, else the CPU with all shims applied, shared by `local_ranks` ranks."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
        return Device(device, "nccl", torch.cuda.get_device_name(device), batched_p2p=True)
    for shim in CPU_SHIMS:
        shim.apply()
    _keep_freed_memory()
    # A rank that was forked after torch had started would take all cores, and ranks that spin for each other's threads
    # are ten times slower. OMP_NUM_THREADS, which torch itself has read only if it was set before, stays in charge.
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or max(1, cores // local_ranks))
    return Device(torch.device("cpu"), "gloo", _processor_name(), batched_p2p=False)


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next step, which asks for the same again.

    By default it maps every tensor above 32 MB afresh and the kernel clears it page by page: with a large vocabulary a
    seventh of a step. Another C library is left as it is.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)


def _processor_name() -> str:
    """The CPU's product name where Linux tells it, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def local_device_count() -> int | None:
    """GPUs on this node, or None on the CPU, where any number of ranks may share it."""
    return torch.cuda.device_count() if torch.cuda.is_available() else None


class _SchedulesTorch(ModuleType):
    """`torch` as Megatron-core's schedules see it on the CPU: `zeros(device="cuda")` allocates on the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def zeros(*size: Any, device: Any = None, **options: Any) -> torch.Tensor:
        """torch.zeros on the CPU, wherever it was asked for."""
        return torch.zeros(*size, **options)


def _deepspeed_accelerator() -> None:
    os.environ["DS_ACCELERATOR"] = "cpu"


def _deepspeed_shm() -> None:
    # An empty table of compatible ops: nothing to compile, and no compiler probed.
    vars(importlib.import_module("deepspeed.ops"))["__compatible_ops__"] = {}


def _current_device() -> None:
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment,return-value]


def _schedules_zeros() -> None:
    vars(importlib.import_module(SCHEDULES))["torch"] = _SchedulesTorch("torch")


def _recompute_rng() -> None:
    random = vars(importlib.import_module(MCORE_RANDOM))
    random["_get_cuda_rng_state"] = lambda *args, **options: torch.get_rng_state()
    random["_set_cuda_rng_state"] = lambda state, *args, **options: torch.set_rng_state(state)


CPU_SHIMS = (
    Shim(
        "deepspeed_accelerator",
        "DeepSpeed's detection warns and, with a CUDA build of torch on a machine without GPUs, picks CUDA",
        _deepspeed_accelerator,
    ),
    Shim(
        "deepspeed_shm",
        "DeepSpeed compiles a shared-memory all-reduce (inference only) at its first start on a CPU",
        _deepspeed_shm,
    ),
    Shim(
        "current_device",
        "Megatron-core allocates parameters and receive buffers on torch.cuda.current_device()",
        _current_device,
    ),
    Shim(
        "schedules_zeros",
        'Megatron-core\'s schedules count tokens in torch.zeros(device="cuda")',
        _schedules_zeros,
    ),
    Shim(
        "recompute_rng",
        "Megatron-core's recomputation saves and restores the CUDA random state",
        _recompute_rng,
    ),
)
