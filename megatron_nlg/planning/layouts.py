"""Every layout of a config on a number of ranks, and why others are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from megatron_nlg.config.errors import Problem
from megatron_nlg.config.schema import Parallel, RunConfig
from megatron_nlg.config.validate import consistency, rank_problems, replica_ranks
from megatron_nlg.planning.stacks import STACKS, Name

MICRO_BATCHES = tuple(2**k for k in range(8))
RECOMPUTE: tuple[Literal["none", "selective", "full"], ...] = ("none", "selective", "full")


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


def reasons(counted: Counter[str]) -> list[tuple[str, int, str]]:
    """(config key, layouts, the most frequent reason) of what is not legal."""
    keys: dict[str, Counter[str]] = {}
    for reason, count in counted.items():
        key, _, message = reason.partition(": ")
        keys.setdefault(key, Counter())[message] += count
    rows = [(key, sum(found.values()), found.most_common(1)[0][0]) for key, found in keys.items()]
    return sorted(rows, key=lambda row: -row[1])
