"""One text that is being continued: its tokens, its draws, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from data_prep.tokenizer import Tokenizer
from megatron_nlg.generation.sampling import Sampling, next_token
from megatron_nlg.generation.text import TextStream


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probabilities (natural) where a token was chosen, by the model itself: before penalty and temperature."""

    logprob: float
    """Of the token."""
    top: dict[int, float]
    """Of the most probable tokens."""


@dataclass(frozen=True)
class Result:
    """A finished continuation."""

    index: int
    """Of the prompt."""
    tokens: list[int]
    """All that were generated, those of a stop sequence too, without the end-of-document token."""
    text: str
    """Without the stop sequence."""
    finish_reason: Literal["stop", "length"]
    """stop: the document's end or a stop sequence; length: max_tokens, or the model's sequence is full."""
    logprobs: list[TokenLogprob] | None = None
    """One a token, where they were asked for."""


@dataclass(frozen=True)
class Piece:
    """A token as it comes."""

    index: int
    """Of the prompt."""
    text: str
    """Text that has become certain with it; it may be empty, or that of several tokens."""
    token: int
    logprob: TokenLogprob | None = None
    """Where they were asked for; of the end-of-document token too."""
    result: Result | None = None
    """With the last piece of a text."""


@dataclass
class Sequence:
    """The state of a text between passes."""

    index: int
    text: list[int]
    """Prompt and continuation."""
    sampling: Sampling
    tokenizer: Tokenizer
    limit: int | None
    """Tokens that the text may have with its prompt; None: any."""
    generated: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = TextStream(self.tokenizer, self.sampling.stop)

    @cached_property
    def random(self) -> torch.Generator:
        """Its own draws; made when they are needed, for it has a state of kilobytes."""
        return torch.Generator().manual_seed(self.sampling.seed)

    @property
    def is_plain(self) -> bool:
        """Whether the next token is just the most probable one."""
        return (
            self.sampling.temperature == 0 and self.sampling.repetition_penalty == 1 and self.sampling.logprobs is None
        )

    def choose(self, logits: Tensor) -> list[float]:
        """logits [vocabulary] -> the next token, and, where asked for, its log-probability, top ids, top values."""
        token = next_token(logits, self.sampling, self.random, self.text)
        if self.sampling.logprobs is None:
            return [token]
        logprobs = torch.log_softmax(logits.double(), 0)
        top = logprobs.topk(min(self.sampling.logprobs, len(logprobs)))
        return [token, float(logprobs[token]), *top.indices.tolist(), *top.values.tolist()]

    def add(self, choice: list[float]) -> Piece:
        """Take what `choose` has given."""
        token, count = int(choice[0]), self.sampling.logprobs
        logprob = None
        if count is not None:
            ids, values = choice[2 : 2 + count], choice[2 + count : 2 + 2 * count]
            logprob = TokenLogprob(choice[1], dict(zip(map(int, ids), values, strict=True)))
        if token == self.tokenizer.eod:
            return self._end("stop", Piece(self.index, self.stream.end(), token, logprob))
        self.text.append(token)
        self.generated += 1
        if logprob:
            self.logprobs.append(logprob)
        piece = Piece(self.index, self.stream.add(token), token, logprob)
        if self.stream.stopped:
            return self._end("stop", piece)
        if self.generated == self.sampling.max_tokens or len(self.text) == self.limit:
            # The end may complete a stop sequence that an unfinished character had hidden.
            piece = replace(piece, text=piece.text + self.stream.end())
            return self._end("stop" if self.stream.stopped else "length", piece)
        return piece

    def _end(self, reason: Literal["stop", "length"], piece: Piece) -> Piece:
        tokens = self.text[len(self.text) - self.generated :]
        logprobs = None if self.sampling.logprobs is None else self.logprobs
        return replace(piece, result=Result(self.index, tokens, self.stream.text, reason, logprobs))
