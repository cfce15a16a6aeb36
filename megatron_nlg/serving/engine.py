"""The model's loop: texts join the batch as they come, on all ranks in the same order."""

from __future__ import annotations

from collections import deque

import torch.distributed as dist

from megatron_nlg.generation.batch import Batch
from megatron_nlg.generation.generator import Generator
from megatron_nlg.generation.scoring import Request, Score, Scorer
from megatron_nlg.generation.sequence import Sequence
from megatron_nlg.serving.desk import Desk, Order, Work
from megatron_nlg.serving.settings import Settings

IDLE_SECONDS = 5.0
"""Without requests, ranks hear of each other this often, well before a collective's time-out."""
SCORED_TOKENS = 8192
"""Prompts that are scored before the batch goes on have about so many tokens: other clients wait for them."""


class Engine:
    """One a rank; all run at once. Only rank 0 has a desk."""

    def __init__(self, generator: Generator, settings: Settings, desk: Desk | None):
        self.generator, self.desk = generator, desk
        self.batch: Batch = generator.batch(settings.batch_size, settings.length)
        self.scorer = Scorer(generator)
        self.unscored: deque[Work] = deque()
        self.several = generator.context.layout.world_size > 1
        self.idle_seconds = min(IDLE_SECONDS, generator.config.distributed.timeout_seconds / 4)

    def run(self) -> None:
        """Work until the desk says stop."""
        while not (order := self._order()).stop:
            for index in order.drop:
                self.batch.drop(index)
                self.unscored = deque(work for work in self.unscored if work.index != index)
            for work in order.new:
                if work.top is None:
                    self._admit(work)
                else:
                    self.unscored.append(work)
            self._score()
            for piece in self.batch.advance():
                if self.desk:
                    self.desk.post(piece.index, piece)

    def _order(self) -> Order:
        """The same on all ranks. Rank 0 speaks at least every few seconds, so that no collective waits for long."""
        idle = not self.batch and not self.unscored
        box = [self.desk.take(self.idle_seconds if idle else 0.0, idle) if self.desk else Order()]
        if self.several:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def _text(self, work: Work) -> Sequence:
        assert work.sampling is not None
        [text] = self.generator.texts([work.prompt], [work.sampling], slide=False)
        text.index = work.index
        return text

    def _admit(self, work: Work) -> None:
        self.batch.waiting.append(self._text(work))

    # ---- prompts' log-probabilities ------------------------------------------------------------------------------

    def _score(self) -> None:
        """Score the prompts that have waited longest; those that are continued then join the batch."""
        works: list[Work] = []
        tokens = 0
        while self.unscored and (not works or tokens + len(self.unscored[0].prompt) <= SCORED_TOKENS):
            works.append(self.unscored.popleft())
            tokens += len(works[-1].prompt)
        for top in {work.top for work in works}:
            assert top is not None
            alike = [work for work in works if work.top == top]
            # With a token more than the prompt, the score tells what comes next: evaluation asks for just that.
            end = [self.generator.tokenizer.eod]
            requests = [Request.whole(work.prompt + end) for work in alike]
            for score in self.scorer.score(requests, max(top, 1)):
                self._scored(alike[score.index], score)

    def _scored(self, work: Work, score: Score) -> None:
        if self.desk:
            self.desk.post(work.index, score)
        if work.sampling is None:
            if self.desk:
                self.desk.finish(work.index)
        elif work.sampling.max_tokens > 1 or not _is_greedy(work):
            self._admit(work)
        else:
            assert score.top is not None and work.sampling.logprobs is not None
            best = list(score.top[-1].items())
            choice = [*map(float, best[0]), *(float(k) for k, _ in best), *(v for _, v in best)]
            choice = choice if work.sampling.logprobs else choice[:2]
            piece = self._text(work).add(choice)
            if self.desk:
                self.desk.post(work.index, piece)


def _is_greedy(work: Work) -> bool:
    how = work.sampling
    return how is not None and how.temperature == 0 and how.repetition_penalty == 1 and how.logprobs is not None
