"""The next token from logits: greedy, or drawn from the fewest tokens that hold a share of the probability (top-p)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 0.9
    max_tokens: int = 100
    seed: int = 0


def next_token(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """logits [vocabulary] -> a token id. Draws on the CPU, so that all ranks with equal logits agree."""
    logits = logits.detach().to("cpu", torch.float64)
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities, order = torch.softmax(logits / sampling.temperature, dim=-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(0) - probabilities  # a token stays when those above it do not make up top_p yet
    probabilities[before >= sampling.top_p] = 0
    return int(order[torch.multinomial(probabilities / probabilities.sum(), 1, generator=generator)])
