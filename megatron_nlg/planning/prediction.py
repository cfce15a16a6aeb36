"""A config's run on a cluster, predicted: seconds of a step, memory of its ranks, whether it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import data_parallel_size
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.flops import model_flops_per_token, step_flops
from megatron_nlg.planning.footprint import GIB, Footprint, device_of, footprint
from megatron_nlg.planning.stacks import Name
from megatron_nlg.planning.step import Breakdown, StepModel, as_dict


@dataclass(frozen=True)
class Prediction:
    """A config on a number of ranks."""

    config: RunConfig
    layout: Layout
    stack: Name
    micro_batches: int
    """A replica's, in a step of the full batch."""
    step_seconds: float
    breakdown: Breakdown
    stages: tuple[Footprint, ...]
    """Memory of a rank, by pipeline stage."""
    memory_gib: float | None
    """What a rank has; None where the cluster's description does not say."""

    @property
    def tflops(self) -> float:
        """TFLOP/s of a rank, with what is recomputed, as published (Narayanan et al. 2021, equation 3)."""
        flops = step_flops(self.config.model, self.config.batch.global_, self.config.parallel.recompute)
        return flops / self.layout.world_size / self.step_seconds / 1e12

    @property
    def model_tflops(self) -> float:
        """TFLOP/s of a rank without what is recomputed: what MFU is of."""
        tokens = self.config.batch.global_ * self.config.model.sequence_length
        flops = tokens * model_flops_per_token(self.config.model)
        return flops / self.layout.world_size / self.step_seconds / 1e12

    @property
    def fullest(self) -> int:
        """The pipeline stage whose ranks need most memory."""
        return max(range(len(self.stages)), key=lambda pipe: self.stages[pipe].total)

    @property
    def peak_memory_gib(self) -> float:
        """Of a rank of that stage."""
        return self.stages[self.fullest].total / GIB

    @property
    def fits(self) -> bool:
        """Whether every rank has that much; so where it is not known."""
        return self.memory_gib is None or self.peak_memory_gib <= self.memory_gib


def predict(
    config: RunConfig,
    cluster: Cluster,
    ranks: int,
    ranks_per_node: int,
    stack: Name = "this",
    memory_gib: float | None = None,
) -> Prediction:
    """Simulate a step of the full batch; `memory_gib` of a rank replaces the cluster's.

    Raises ConfigError when the layout does not fit `ranks` ranks, InputError when the cluster's description has no
    rates.
    """
    data = data_parallel_size(config, ranks)
    micro_batches = config.batch.global_ // (config.batch.micro * data)
    step = StepModel(config, cluster, ranks, stack).step(micro_batches)
    return Prediction(
        config,
        Layout.of(config.parallel, ranks),
        stack,
        micro_batches,
        step.seconds,
        step.breakdown,
        footprints(config, cluster, data, micro_batches, stack),
        memory_gib or rank_memory_gib(cluster, ranks_per_node),
    )


def footprints(
    config: RunConfig, cluster: Cluster, data_parallel: int, micro_batches: int, stack: Name = "this"
) -> tuple[Footprint, ...]:
    """Memory of a rank by pipeline stage."""
    device = device_of(cluster)
    return tuple(
        footprint(config, data_parallel, micro_batches, pipe, device, stack) for pipe in range(config.parallel.pipeline)
    )


def rank_memory_gib(cluster: Cluster, ranks_per_node: int) -> float | None:
    """Memory of an accelerator; of a machine without any, each rank's share."""
    if cluster.memory_gib is None:
        return None
    return cluster.memory_gib if cluster.gpus_per_node else cluster.memory_gib / ranks_per_node


def as_tree(found: Prediction) -> dict[str, Any]:
    """What `plan --fixed --json` prints."""
    parallel, layout = found.config.parallel, found.layout
    return {
        "step_seconds": round(found.step_seconds, 4),
        "tflops_per_gpu": round(found.tflops, 2),
        "peak_memory_gib": round(found.peak_memory_gib, 2),
        "fits": found.fits,
        "breakdown": {part: round(float(seconds), 4) for part, seconds in as_dict(found.breakdown).items()},
        "layout": {
            "ranks": layout.world_size,
            "tensor": layout.tensor,
            "pipeline": layout.pipeline,
            "interleave": layout.interleave,
            "context": layout.context,
            "data": layout.data,
            "micro_batch": found.config.batch.micro,
            "micro_batches": found.micro_batches,
            "global_batch": found.config.batch.global_,
            "sequence": parallel.sequence,
            "zero_stage": parallel.zero_stage,
            "recompute": parallel.recompute,
            "stack": found.stack,
        },
    }
