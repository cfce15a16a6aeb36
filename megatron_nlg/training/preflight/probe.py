"""What is measured on a rank: a GEMM's rate, and the bandwidth to another rank."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore

from megatron_nlg.parallel.device import Device


@dataclass(frozen=True)
class Sizes:
    """How much is measured; less on a CPU, where the ranks of one machine share it."""

    gemm: int
    """Rows and columns of the square matrices."""
    gemm_dtype: torch.dtype
    message_bytes: int
    repeats: int = 5

    @classmethod
    def of(cls, device: Device) -> Sizes:
        """For a device."""
        if device.torch.type == "cuda":
            return cls(8192, torch.bfloat16, 256 << 20)
        return cls(512, torch.float32, 4 << 20)


class Probe:
    """Measures on this rank's device."""

    def __init__(self, device: Device, timeout: float):
        self.device, self.timeout = device, timeout
        self.sizes = Sizes.of(device)

    def gemm_tflops(self) -> float:
        """TFLOP/s of a square matrix product, the median of some."""
        n = self.sizes.gemm
        a, b = (torch.randn(n, n, device=self.device.torch).to(self.sizes.gemm_dtype) for _ in range(2))
        seconds = [self._timed(lambda: a @ b) for _ in range(self.sizes.repeats + 1)][1:]
        return 2 * n**3 / statistics.median(seconds) / 1e12

    def bandwidth(self, store: Any, first: bool) -> float:
        """Bytes per second and direction between two ranks that meet in `store`; raises RuntimeError when they don't.

        One sends, then the other: what a pipeline's boundary does.
        """
        group = self._group(PrefixStore("pair", store), 0 if first else 1)
        message = torch.zeros(self.sizes.message_bytes, dtype=torch.uint8, device=self.device.torch)
        seconds = [self._timed(lambda: self._there_and_back(group, message, first)) for _ in range(self.sizes.repeats)]
        return 2 * message.numel() / statistics.median(seconds[1:] or seconds)

    def _there_and_back(self, group: Any, message: torch.Tensor, first: bool) -> None:
        steps = [group.send, group.recv] if first else [group.recv, group.send]
        for step in steps:
            step([message], 1 if first else 0, 0).wait()

    def _group(self, store: Any, rank: int) -> Any:
        timeout = timedelta(seconds=self.timeout)
        if self.device.backend == "gloo":
            return dist.ProcessGroupGloo(store, rank, 2, timeout)
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timeout
        return dist.ProcessGroupNCCL(store, rank, 2, options)

    def _timed(self, work: Any) -> float:
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.torch.type == "cuda":
            torch.cuda.synchronize(self.device.torch)
