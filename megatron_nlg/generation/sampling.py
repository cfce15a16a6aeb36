"""The next token from logits: greedy, or drawn.

Penalty, temperature, top-k and top-p are those of Hugging Face's transformers, applied in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megatron_nlg.config.errors import InputError

CANDIDATES = 256
"""Tokens that are sorted at first; top-p rarely needs more, and sorting a whole vocabulary takes milliseconds."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, and what ends them."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 0.9
    """Only the fewest tokens that hold this share of the probability; 1: all."""
    max_tokens: int = 100
    seed: int = 0
    """Of the text's own draws: they are the same in any batch."""
    top_k: int = 0
    """Only so many of the most probable tokens; 0: all."""
    repetition_penalty: float = 1.0
    """Logits of tokens that the text or its prompt has are divided by it, negative ones multiplied (CTRL, Keskar et
    al. 2019)."""
    stop: tuple[str, ...] = ()
    """Text that ends the continuation and is not shown, also across borders of tokens."""
    logprobs: int | None = None
    """Log-probabilities of the tokens, and of so many most probable ones beside each; None: none."""

    def check(self) -> None:
        """Raise InputError for a value that makes no sense."""
        for name, good, what in (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or more"),
            ("seed", 0 <= self.seed < 2**63, "from 0 to 2^63 - 1"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("repetition_penalty", 0 < self.repetition_penalty < float("inf"), "above 0"),
            ("stop", all(self.stop), "text that is not empty"),
            ("logprobs", self.logprobs is None or self.logprobs >= 0, "0 or more"),
        ):
            if not good:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {what}")


def next_token(logits: Tensor, sampling: Sampling, generator: torch.Generator, text: Sequence[int] = ()) -> int:
    """logits [vocabulary] after `text` -> a token id. A draw takes one number from a CPU generator."""
    tokens, probabilities = candidates(logits, sampling, text)
    if len(tokens) == 1:
        return int(tokens[0])
    drawn = torch.rand(1, generator=generator, dtype=torch.float64)
    place = int(torch.searchsorted(probabilities.cumsum(0), drawn * probabilities.sum(), right=True))
    return int(tokens[min(place, len(tokens) - 1)])


def candidates(logits: Tensor, sampling: Sampling, text: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """The tokens that may come next, most probable first, of equals the lower id, and their shares of the probability.

    The shares are those before top-p has taken its part, so that they may add up to less than 1.
    """
    logits = logits.detach().to("cpu", torch.float64)
    if sampling.repetition_penalty != 1 and text:
        seen = torch.tensor(sorted(set(text)))
        scores, penalty = logits[seen], sampling.repetition_penalty
        logits = logits.index_put((seen,), torch.where(scores < 0, scores * penalty, scores / penalty))
    if sampling.temperature == 0:
        return logits.argmax()[None], torch.ones(1, dtype=torch.float64)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        kept = torch.nonzero(logits >= logits.topk(sampling.top_k).values[-1])[:, 0]  # as transformers: ties stay
        tokens, shares = _sorted(kept, torch.softmax(logits[kept], 0))
    else:
        tokens, shares = _head(torch.softmax(logits, 0), sampling.top_p)
    before = shares.cumsum(0) - shares  # a token stays when those above it do not make up top_p yet
    count = len(tokens) if sampling.top_p >= 1 else max(1, int((before < sampling.top_p).sum()))
    return tokens[:count], shares[:count]


def _head(shares: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The most probable tokens, sorted: enough to hold `top_p`."""
    if top_p < 1 and len(shares) > CANDIDATES:
        least = shares.topk(CANDIDATES).values[-1]
        kept = torch.nonzero(shares >= least)[:, 0]
        if shares[kept].sum() > top_p:
            return _sorted(kept, shares[kept])
    return _sorted(torch.arange(len(shares)), shares)


def _sorted(tokens: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    shares, order = shares.sort(descending=True, stable=True)
    return tokens[order], shares
