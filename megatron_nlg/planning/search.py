"""All layouts of a run on a cluster, ranked by their step: estimated in closed form, the best ones simulated.

What is legal is what `config/validate.py` lets through. What does not fit, and what is not legal, is counted with its
reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.errors import InputError, Problem
from megatron_nlg.config.schema import Parallel, RunConfig
from megatron_nlg.config.validate import consistency, rank_problems, replica_ranks
from megatron_nlg.planning.footprint import GIB, device_of, footprint
from megatron_nlg.planning.prediction import Prediction, predict, rank_memory_gib
from megatron_nlg.planning.stacks import STACKS, Name
from megatron_nlg.planning.step import StepModel

SIMULATED = 20
"""Layouts that are simulated, the best by estimate."""
PASSES = 400_000
"""Passes of pipelines that a search simulates at most: about a second."""
MICRO_BATCHES = tuple(2**k for k in range(8))
RECOMPUTE: tuple[Literal["none", "selective", "full"], ...] = ("none", "selective", "full")


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


def layouts(config: RunConfig, ranks: int, stack: Name, illegal: Counter[str]) -> Iterator[RunConfig]:
    """Every legal layout of the config; reasons why others are not are counted in `illegal`."""
    for parallel in _cuts(config, ranks, stack):
        cut = config.model_copy(update={"parallel": parallel})
        if problem := next(iter(consistency(cut)), None):
            illegal[_reason(problem)] += 1
            continue
        data = ranks // replica_ranks(cut)
        sizes = sorted({size for size in MICRO_BATCHES if size * data <= config.batch.global_} | {config.batch.micro})
        for micro in sizes:
            sized = cut.model_copy(update={"batch": config.batch.model_copy(update={"micro": micro})})
            if problem := next(rank_problems(sized, ranks), None):
                illegal[_reason(problem)] += 1
                continue
            for recompute in RECOMPUTE:
                # Recomputing attention saves nothing where it is one kernel.
                if recompute != "selective" or recompute == config.parallel.recompute:
                    yield sized.model_copy(update={"parallel": parallel.model_copy(update={"recompute": recompute})})


def _cuts(config: RunConfig, ranks: int, stack: Name) -> Iterator[Parallel]:
    """Tensor × pipeline × interleave × sequence parallel × ZeRO; what can't even be counted out is left out."""
    model, software, context = config.model, STACKS[stack], config.parallel.context
    for tensor in _divisors(ranks // context, model.num_attention_heads):
        for pipeline in _divisors(ranks // context // tensor, model.num_layers):
            whole = model.num_layers // pipeline if pipeline > 1 and model.num_layers % pipeline == 0 else 1
            for interleave in _divisors(whole, whole) if software.interleaves else (1,):
                for sequence in (False, True) if tensor > 1 and software.cuts_sequence else (False,):
                    for zero in (1, 2, 3) if pipeline == 1 and software.weights_gathered else (1,):
                        yield config.parallel.model_copy(
                            update={
                                "tensor": tensor,
                                "pipeline": pipeline,
                                "interleave": interleave,
                                "sequence": sequence,
                                "zero_stage": zero,
                            }
                        )


def _divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]


def _reason(problem: Problem) -> str:
    return f"{problem.key}: {problem.message}"


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


def reasons(counted: Counter[str]) -> list[tuple[str, int, str]]:
    """(config key, layouts, the most frequent reason) of what is not legal."""
    keys: dict[str, Counter[str]] = {}
    for reason, count in counted.items():
        key, _, message = reason.partition(": ")
        keys.setdefault(key, Counter())[message] += count
    rows = [(key, sum(found.values()), found.most_common(1)[0][0]) for key, found in keys.items()]
    return sorted(rows, key=lambda row: -row[1])


def no_room(found: Search) -> InputError:
    """The error to raise when no layout fits."""
    if not found.unfit:
        return InputError("no layout is legal on these ranks: " + "; ".join(row[2] for row in reasons(found.illegal)))
    return InputError(f"no layout fits; the nearest: {found.excess(found.unfit[0])}; use more nodes")
