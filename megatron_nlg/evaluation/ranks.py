"""One rank asks, all ranks compute: lm-evaluation-harness runs on rank 0, and the others do what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.sampling import Sampling
from megatron_nlg.generation.scoring import Request, Score, Scorer
from megatron_nlg.generation.sequence import Result

T = TypeVar("T")


class Ranks:
    """A Generator's ranks. Rank 0 calls `score` and `generate` inside `lead`, where the others follow.

    `beat` is called on every rank with each result.
    """

    def __init__(self, generator: Generator, scorer: Scorer, beat: Callable[[], None] = lambda: None):
        self.generator, self.scorer, self.beat = generator, scorer, beat

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

    def lead(self, work: Callable[[], T]) -> T | None:
        """Do the work on rank 0 and follow it on the others; returns what it did, None on the others."""
        if not self.generator.context.is_main:
            self.follow()
            return None
        done = work()
        self.close()
        return done

    def _ask(self, *job: Any) -> Iterator[Any]:
        self._tell(job)
        return self._do(*job)

    def _do(self, kind: str, *arguments: Any) -> Iterator[Any]:
        found = self.scorer.score(*arguments) if kind == "score" else self.generator.generate(*arguments)
        for each in found:
            self.beat()
            yield each

    def _tell(self, job: Any) -> Any:
        """What rank 0 says."""
        if self.generator.context.layout.world_size == 1:
            return job
        said = [job]
        dist.broadcast_object_list(said, src=0)
        return said[0]
