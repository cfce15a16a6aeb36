"""One rank asks, all ranks compute: lm-evaluation-harness runs on rank 0, and the others do what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch.distributed as dist

from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.scoring import Request, Score, Scorer
from megatron_nlg.generation.sequence import Result


class Ranks:
    """A Generator's ranks. Rank 0 calls `score`, `generate` and, at the end, `close`; the others call `follow`."""

    def __init__(self, generator: Generator, scorer: Scorer):
        self.generator, self.scorer = generator, scorer

    def score(self, requests: Sequence[Request]) -> Iterator[Score]:
        """As Scorer.score."""
        yield from self._ask("score", requests)

    def generate(self, prompts: Sequence[list[int]], sampling: Sequence[Sampling]) -> Iterator[Result]:
        """As Generator.generate."""
        yield from self._ask("generate", prompts, sampling)

    def close(self) -> None:
        """Let the others leave `follow`."""
        self._tell(None)

    def follow(self) -> None:
        """Do what rank 0 asks for until it closes."""
        while (job := self._tell(None)) is not None:
            for _ in self._do(*job):
                pass

    def _ask(self, *job: Any) -> Iterator[Any]:
        self._tell(job)
        return self._do(*job)

    def _do(self, kind: str, *arguments: Any) -> Iterator[Any]:
        return self.scorer.score(*arguments) if kind == "score" else self.generator.generate(*arguments)

    def _tell(self, job: Any) -> Any:
        """What rank 0 says."""
        if self.generator.context.layout.world_size == 1:
            return job
        said = [job]
        dist.broadcast_object_list(said, src=0)
        return said[0]
