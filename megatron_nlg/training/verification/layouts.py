"""All legal layouts of a config on a number of ranks, and a small sample that still meets every pair of choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from megatron_nlg.config.schema import Parallel, RunConfig
from megatron_nlg.config.validate import consistency, rank_problems
from megatron_nlg.parallel.layout import Layout


@dataclass(frozen=True)
class Candidate:
    """A way to cut the model over ranks."""

    ranks: int
    parallel: Parallel

    @property
    def name(self) -> str:
        """Short and complete: two candidates with the same name are the same."""
        p, data = self.parallel, Layout.of(self.parallel, self.ranks).data
        chunks = f"×{p.interleave}" if p.interleave > 1 else ""
        parts = [
            f"TP{p.tensor}" + ("+SP" if p.sequence else ""),
            f"PP{p.pipeline}{chunks}",
            f"CP{p.context}",
            f"DP{data}",
            f"ZeRO-{p.zero_stage}" + (" offload" if p.offload_optimizer else ""),
        ]
        return " ".join(parts) + ("" if p.recompute == "none" else f" recompute {p.recompute}")

    @property
    def choices(self) -> tuple[tuple[str, Any], ...]:
        """Each axis with its value."""
        return (*self.parallel.model_dump().items(), ("data", Layout.of(self.parallel, self.ranks).data))


def legal_layouts(config: RunConfig, ranks: Sequence[int]) -> list[Candidate]:
    """Every layout that the config could train in, on any of these numbers of ranks."""
    found = []
    for count in ranks:
        divisors = [d for d in range(1, count + 1) if count % d == 0]
        for tensor, pipeline, context in product(divisors, repeat=3):
            if count % (tensor * pipeline * context) == 0:
                found += [
                    Candidate(count, parallel)
                    for parallel in _variants(config, tensor, pipeline, context)
                    if _is_legal(config.model_copy(update={"parallel": parallel}), count)
                ]
    return found


def _variants(config: RunConfig, tensor: int, pipeline: int, context: int) -> Iterator[Parallel]:
    chunks = [n for n in (1, 2, 3, 4) if config.model.num_layers % (pipeline * n) == 0]
    for interleave, sequence, zero_stage, recompute, offload in product(
        chunks, (False, True), (1, 2, 3), ("none", "selective", "full"), (False, True)
    ):
        yield Parallel(
            tensor=tensor,
            pipeline=pipeline,
            context=context,
            interleave=interleave,
            sequence=sequence,
            zero_stage=zero_stage,  # type: ignore[arg-type]
            recompute=recompute,  # type: ignore[arg-type]
            offload_optimizer=offload,
        )


def _is_legal(config: RunConfig, ranks: int) -> bool:
    return not any(consistency(config)) and not any(rank_problems(config, ranks))


def sample(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """`count` candidates that between them meet as many pairs of choices as can be, fewest ranks first among equals.

    Greedy and deterministic: each one taken adds the most pairs that no earlier one has.
    """
    pairs = {c.name: set(combinations(c.choices, 2)) for c in candidates}
    left = sorted(candidates, key=lambda c: (c.ranks, c.name))
    taken: list[Candidate] = []
    met: set[Any] = set()
    while left and len(taken) < count:
        best = max(left, key=lambda c: len(pairs[c.name] - met))
        if not pairs[best.name] - met:  # all met: start over, so that the rest of the sample is spread as well
            met = set()
            best = max(left, key=lambda c: len(pairs[c.name]))
        taken.append(best)
        left.remove(best)
        met |= pairs[best.name]
    return taken
