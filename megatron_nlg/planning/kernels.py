"""Seconds of single kernels on an accelerator: matrix products from their shape, the rest from the bytes they move.

A matrix product is cut into tiles that the processors take in waves; the last wave is as long as a full one (NVIDIA,
Matrix Multiplication Background: tile and wave quantization). Larger tiles reuse more of what they load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from megatron_nlg.config.cluster import Cluster, Compute
from megatron_nlg.config.errors import InputError

TILES = ((128, 256, 1.0), (256, 128, 1.0), (128, 128, 0.93))
"""Rows, columns, and rate against the largest: cuBLAS's on Ampere and Hopper, by the same source's figures."""
PROLOGUE = 64
"""Inner products of a tile as long as filling and draining its pipeline takes: two of its steps of 32."""


@dataclass(frozen=True)
class Accelerator:
    """Rates of one accelerator in a precision."""

    flops: float
    """Peak of matrix products, FLOP/s."""
    compute: Compute

    @classmethod
    def of(cls, cluster: Cluster, precision: str) -> Accelerator:
        """Raises InputError when the description has no rates."""
        if cluster.compute is None or cluster.peak_tflops is None:
            raise InputError(
                f"{cluster.name}: peak_tflops and compute are needed to predict times; see "
                "configs/clusters/selene.yaml, or measure them with `megatron-nlg plan --calibrate`"
            )
        tflops = cluster.peak_tflops if precision != "fp32" else cluster.compute.fp32_tflops or cluster.peak_tflops
        return cls(tflops * 1e12, cluster.compute)

    def gemm(self, rows: int, columns: int, inner: int, batch: int = 1) -> float:
        """Seconds of `batch` products [rows, inner] × [inner, columns]."""
        rate = self.flops * self.compute.gemm_efficiency * _occupied(rows, columns, batch, self.compute.processors)
        return 2 * rows * columns * (inner + PROLOGUE * (self.compute.processors > 1)) * batch / rate

    def functions(self, elements: float) -> float:
        """Seconds of so many exponentials, beside the memory's: none where memory alone binds."""
        return elements / (self.compute.functions_gps * 1e9) if self.compute.functions_gps else 0.0

    def starts(self, kernels: int) -> float:
        """Seconds between so many kernels that nothing hides."""
        return kernels * self.compute.kernel_us * 1e-6

    def speed(self, ranks: float) -> float:
        """Of each of so many ranks of a node that compute at the same time, against one alone."""
        cores, together = self.compute.cores, self.compute.cores_together
        if cores is None or ranks <= 1:
            return 1.0
        if ranks < cores:
            return 1 - (1 - together) * (ranks - 1) / (cores - 1)
        # Ranks that take turns on a core find each other's data in its caches.
        crowded = together if self.compute.cores_crowded is None else self.compute.cores_crowded
        crowding = min(1.0, math.log2(ranks / cores) / 2)
        return (together + crowding * (crowded - together)) * cores / ranks

    def memory(self, bytes_moved: float) -> float:
        """Seconds to read and write so much, in kernels that do little else."""
        return bytes_moved / (self.compute.memory_gbs * 1e9 * self.compute.memory_efficiency)


@lru_cache(maxsize=4096)
def _occupied(rows: int, columns: int, batch: int, processors: int) -> float:
    """Share of a full machine's rate, by the best tile."""
    if processors == 1:
        return 1.0
    best = 0.0
    for height, width, rate in TILES:
        tiles = batch * -(-rows // height) * -(-columns // width)
        waves = -(-tiles // processors)
        best = max(best, rate * rows * columns * batch / (waves * processors * height * width))
    return best
