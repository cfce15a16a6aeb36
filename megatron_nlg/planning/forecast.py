"""A whole run, foretold: days to the token budget through the batch ramp, failures, other sizes of the cluster."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import rank_problems, replica_ranks
from megatron_nlg.planning.memory import ELEMENT_BYTES, OPTIMIZER_BYTES
from megatron_nlg.planning.parameters import total_parameters
from megatron_nlg.planning.prediction import Prediction, predict
from megatron_nlg.planning.step import StepModel

HOUR, DAY = 3600.0, 86400.0
FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""Of the replicas, for curves of scaling."""


@dataclass(frozen=True)
class Level:
    """Steps of one global batch size."""

    sequences: int
    steps: int
    step_seconds: float


@dataclass(frozen=True)
class Failures:
    """What node failures cost, and the interval of checkpoints that makes it least."""

    job_mtbf_hours: float
    checkpoint_seconds: float
    interval_seconds: float
    interval_steps: int
    lost: float
    """Share of the time: writing, repeating and restarting."""


@dataclass(frozen=True)
class Forecast:
    """A run to its token budget."""

    levels: tuple[Level, ...]
    ranks: int
    tokens: int
    failures: Failures | None = None

    @property
    def busy_seconds(self) -> float:
        """Of all steps."""
        return sum(level.steps * level.step_seconds for level in self.levels)

    @property
    def seconds(self) -> float:
        """With what failures cost."""
        return self.busy_seconds / (1 - (self.failures.lost if self.failures else 0.0))

    @property
    def days(self) -> float:
        """From start to end."""
        return self.seconds / DAY

    @property
    def gpu_hours(self) -> float:
        """Of all ranks."""
        return self.ranks * self.seconds / HOUR

    @property
    def tokens_per_day(self) -> float:
        """On average over the run."""
        return self.tokens / self.days


def forecast(
    found: Prediction, cluster: Cluster, sizes: Sequence[tuple[int, int]], failures: Failures | None = None
) -> Forecast:
    """The run of a predicted layout through `sizes`: (global batch, steps) of every level of its ramp."""
    model = StepModel(found.config, cluster, found.layout.world_size, found.stack)
    per_micro = found.config.batch.micro * found.layout.data
    counts = [sequences // per_micro for sequences, _ in sizes]
    # A step is linear in its micro-batches between these: while the pipeline is not full, and beyond.
    p = found.layout.pipeline
    known = sorted({min(counts), *(n for n in (p // 2, p, 2 * p) if min(counts) < n < max(counts))})
    if found.layout.interleave > 1:
        known = sorted({n for n in known if n % p == 0} | {min(counts)})
    seconds = [model.step(n).seconds for n in known if n != found.micro_batches]
    known = [n for n in known if n != found.micro_batches]
    found_at = np.interp(counts, [*known, found.micro_batches], [*seconds, found.step_seconds])
    levels = [Level(*size, float(one)) for size, one in zip(sizes, found_at, strict=True)]
    tokens = sum(level.sequences * level.steps for level in levels) * found.config.model.sequence_length
    return Forecast(tuple(levels), found.layout.world_size, tokens, failures)


def checkpoint_bytes(config: RunConfig) -> int:
    """Of one checkpoint: weights, fp32 master weights and Adam's moments, each parameter once."""
    return total_parameters(config.model) * (ELEMENT_BYTES[config.precision] + OPTIMIZER_BYTES)


def failures(found: Prediction, nodes: int, mtbf_hours: float, write_gbs: float, restart_seconds: float) -> Failures:
    """Of a job on `nodes` nodes that each fail every `mtbf_hours`, and write checkpoints at `write_gbs` GB/s together.

    The best interval is Daly's (Future Generation Computer Systems 22, 2006, equation 37), which for rare failures is
    Young's sqrt(2δM); the time lost is that of his equation 20.
    """
    mean = mtbf_hours * HOUR / nodes
    write = checkpoint_bytes(found.config) / (write_gbs * 1e9)
    ratio = write / (2 * mean)
    interval = mean
    if ratio < 1:
        interval = math.sqrt(2 * write * mean) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - write
    steps = max(1, round(interval / found.step_seconds))
    taken = steps * found.step_seconds
    if (taken + write + restart_seconds) / mean > 20:
        raise InputError(
            f"--mtbf {mtbf_hours:g}: {nodes} nodes fail every {mean:.0f} s, and a checkpoint takes {write:.0f} s: such "
            "a run never ends; write faster (--write-gbs), or take fewer nodes"
        )
    stretched = mean * math.exp(restart_seconds / mean) * math.expm1((taken + write) / mean) / taken
    return Failures(mean / HOUR, write, taken, steps, 1 - 1 / stretched)


@dataclass(frozen=True)
class Point:
    """One size of the cluster on a curve of scaling."""

    nodes: float
    replicas: int
    sequences: int
    step_seconds: float
    efficiency: float
    """Sequences a second of a rank, against the layout that the curve goes through."""
    fits: bool


def scaling(found: Prediction, cluster: Cluster, ranks_per_node: int, weak: bool) -> list[Point]:
    """The same layout with other numbers of replicas: the same global batch (strong), or one as large a replica (weak).

    Sizes at which the batch can't be split, or that the cluster has not, are left out.
    """
    here = found.config.batch.global_ / found.step_seconds / found.layout.world_size
    points = []
    for config, ranks in _scaled(found, cluster, ranks_per_node, weak):
        other = predict(config, cluster, ranks, ranks_per_node, found.stack)
        efficiency = config.batch.global_ / other.step_seconds / ranks / here
        nodes, size = ranks / ranks_per_node, config.batch.global_
        points.append(Point(nodes, other.layout.data, size, other.step_seconds, efficiency, other.fits))
    return points


def _scaled(found: Prediction, cluster: Cluster, per_node: int, weak: bool) -> Iterator[tuple[RunConfig, int]]:
    data, batch = found.layout.data, found.config.batch
    for factor in FACTORS:
        replicas, sequences = data * factor, batch.global_ * factor if weak else batch.global_
        if replicas != int(replicas) or sequences != int(sequences):
            continue
        config = found.config.model_copy(
            update={"batch": batch.model_copy(update={"global_": int(sequences), "ramp": None})}
        )
        ranks = int(replicas) * replica_ranks(config)
        if ranks <= cluster.nodes * per_node and not [*rank_problems(config, ranks)]:
            yield config, ranks
