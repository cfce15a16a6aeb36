"""All layouts of a run on a cluster, ranked by their step: estimated in closed form, the best ones simulated.

What is legal is what `config/validate.py` lets through. What does not fit, and what is not legal, is counted with its
reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import consistency, rank_problems, replica_ranks
from megatron_nlg.planning.footprint import GIB, device_of, footprint
from megatron_nlg.planning.layouts import layouts, reasons
from megatron_nlg.planning.prediction import Prediction, predict, rank_memory_gib
from megatron_nlg.planning.stacks import Name
from megatron_nlg.planning.step import StepModel

SIMULATED = 20
"""Layouts that are simulated, the best by estimate."""
PASSES = 250_000
"""Passes of pipelines that a search simulates at most: under a second."""


@dataclass(frozen=True)
class Candidate:
    """A legal layout before it is simulated."""

    config: RunConfig
    stage: int
    """The fullest one."""
    peak_memory_gib: float
    """Of a rank there."""
    estimated_seconds: float


@dataclass(frozen=True)
class Search:
    """What was found for a number of ranks."""

    ranked: tuple[Prediction, ...]
    """Simulated, the fastest first."""
    estimated: tuple[Candidate, ...]
    """The others that fit, by their estimate."""
    unfit: tuple[Candidate, ...]
    """Those that need too much memory, the nearest miss first."""
    illegal: Counter[str]
    """Reason -> layouts."""
    own: Prediction | None
    """The config's own layout; None where it is not legal."""
    memory_gib: float | None
    """Of a rank."""

    @property
    def fitting(self) -> int:
        """Layouts that are legal and fit."""
        return len(self.ranked) + len(self.estimated)

    @property
    def misses(self) -> list[Candidate]:
        """What does not fit, first what would be fast and needs little more."""
        return sorted(self.unfit, key=lambda row: row.peak_memory_gib * row.estimated_seconds)

    def excess(self, candidate: Candidate) -> str:
        """Why a candidate does not fit."""
        return f"stage {candidate.stage} needs {candidate.peak_memory_gib:.1f} GiB of {self.memory_gib:g}"


def search(
    config: RunConfig,
    cluster: Cluster,
    ranks: int,
    ranks_per_node: int,
    stack: Name = "this",
    memory_gib: float | None = None,
) -> Search:
    """Rank all layouts on `ranks` ranks with so much memory each (by default the cluster's).

    Raises InputError when the cluster's description has no rates.
    """
    room = memory_gib or rank_memory_gib(cluster, ranks_per_node)
    illegal: Counter[str] = Counter()
    fitting: list[Candidate] = []
    unfit: list[Candidate] = []
    for layout in layouts(config, ranks, stack, illegal):
        stage, peak = peak_memory(layout, cluster, ranks, stack)
        candidate = Candidate(layout, stage, peak, estimate(layout, cluster, ranks, stack))
        (unfit if room is not None and peak > room else fitting).append(candidate)
    fitting.sort(key=lambda candidate: candidate.estimated_seconds)
    unfit.sort(key=lambda candidate: candidate.peak_memory_gib)
    ranked: list[Prediction] = []
    rest: list[Candidate] = []
    passes = 0
    for candidate in fitting:
        cost = _passes(candidate.config, ranks)
        if len(ranked) < SIMULATED and (not ranked or passes + cost < PASSES):
            passes += cost
            ranked.append(predict(candidate.config, cluster, ranks, ranks_per_node, stack, memory_gib))
        else:
            rest.append(candidate)
    own = None
    if not [*consistency(config), *rank_problems(config, ranks)]:
        own = predict(config, cluster, ranks, ranks_per_node, stack, memory_gib)
    ranked.sort(key=lambda found: found.step_seconds)
    return Search(tuple(ranked), tuple(rest), tuple(unfit), illegal, own, room)


def peak_memory(config: RunConfig, cluster: Cluster, ranks: int, stack: Name) -> tuple[int, float]:
    """The fullest stage, and the GiB that a rank of it needs. It is the first, the second or the last one."""
    data, micro_batches = _batches(config, ranks)
    device, stages = device_of(cluster), config.parallel.pipeline
    sizes = {
        pipe: footprint(config, data, micro_batches, pipe, device, stack).total
        for pipe in sorted({0, min(1, stages - 1), stages - 1})
    }
    fullest = max(sizes, key=lambda pipe: sizes[pipe])
    return fullest, sizes[fullest] / GIB


def _batches(config: RunConfig, ranks: int) -> tuple[int, int]:
    """Replicas, and micro-batches of each."""
    data = ranks // replica_ranks(config)
    return data, config.batch.global_ // (config.batch.micro * data)


def _passes(config: RunConfig, ranks: int) -> int:
    return 2 * config.parallel.pipeline * config.parallel.interleave * _batches(config, ranks)[1]


def estimate(config: RunConfig, cluster: Cluster, ranks: int, stack: Name = "this") -> float:
    """Seconds of a step without simulating it: (m + (p − 1)/v) passes of the slowest stage, and what follows them.

    Stages between the first and the last are equal, so that three stand for all.
    """
    micro_batches, stages = _batches(config, ranks)[1], config.parallel.pipeline
    few = min(stages, 3)
    layers = config.model.num_layers // stages * few
    short = config.model_copy(
        update={
            "parallel": config.parallel.model_copy(update={"pipeline": few}),
            "model": config.model.model_copy(update={"num_layers": layers}),
        }
    )
    return StepModel(short, cluster, ranks // stages * few, stack).estimate(micro_batches, stages)


def no_room(found: Search) -> InputError:
    """The error to raise when no layout fits."""
    if not found.unfit:
        return InputError("no layout is legal on these ranks: " + "; ".join(row[2] for row in reasons(found.illegal)))
    return InputError(f"no layout fits; the nearest: {found.excess(found.unfit[0])}; use more nodes")
