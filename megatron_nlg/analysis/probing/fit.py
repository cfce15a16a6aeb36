"""Training of a bank of probes: Adam, and for each probe the weights of its lowest loss on held-out examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megatron_nlg.analysis.probing.probes import Bank, Kind

AT_LEAST = 8
"""Steps of a round when an epoch is shorter."""


class Examples(NamedTuple):
    """Of one task."""

    x: Tensor
    """[layers, examples, spans, hidden]"""
    y: Tensor
    """[examples]"""

    def part(self, begin: int, end: int) -> Examples:
        """Some of them."""
        return Examples(self.x[:, begin:end], self.y[begin:end])


@dataclass(frozen=True)
class Training:
    """How probes are trained; the same for all portions of a code."""

    kind: Kind = "linear"
    width: int = 64
    """Of the hidden layer of mlp and multi."""
    product: bool = True
    """Of two spans, also the elementwise product: with it a linear probe can see what they have in common."""
    step: float = 0.15
    """Adam's learning rate times a map's inputs: about what a step may change of a log-odds, whatever the width."""
    batch_size: int = 64
    rounds: int = 40
    """At most so many epochs (or 8 steps, where an epoch is shorter)."""
    patience: int = 3
    """Rounds without a lower held-out loss after which a probe is left as it was best."""
    seed: int = 0


def fit(train: Sequence[Examples], held_out: Sequence[Examples], classes: Sequence[int], how: Training) -> Bank:
    """Train probes of every layer on one task, or with kind multi on several, to the same digits for a seed.

    The loss is the mean cross-entropy, summed over tasks. A probe's best weights may be those before training.
    """
    layers, _, _, hidden = train[0].x.shape
    shapes = [(examples.x.shape[2], count) for examples, count in zip(train, classes, strict=True)]
    bank = Bank(how.kind, layers, hidden, shapes, how.width, how.seed)
    optimizer = torch.optim.Adam(bank.groups(how.step), fused=True)
    order = torch.Generator().manual_seed(how.seed)
    best = [parameter.detach().clone() for parameter in bank.parameters()]
    lowest = _losses(bank, held_out)
    waited = torch.zeros(bank.probes, dtype=torch.long)
    for _ in range(how.rounds):
        _round(bank, optimizer, train, how.batch_size, order)
        loss = _losses(bank, held_out)
        going = waited < how.patience  # a probe that has stopped is not changed by those that go on
        better = going & (loss < lowest)
        lowest = torch.where(better, loss, lowest)
        waited += torch.where(going, torch.where(better, -waited, 1), 0)
        with torch.no_grad():
            for kept, parameter in zip(best, bank.parameters(), strict=True):
                kept[better] = parameter[better]
        if not (waited < how.patience).any():
            break
    with torch.no_grad():
        for kept, parameter in zip(best, bank.parameters(), strict=True):
            parameter.copy_(kept)
    return bank


def _round(bank: Bank, optimizer: torch.optim.Optimizer, train: Sequence[Examples], size: int,
           order: torch.Generator) -> None:  # fmt: skip
    """An epoch of the largest task, or AT_LEAST steps; each step has a batch of every task."""
    longest = max(len(examples.y) for examples in train)
    steps = max(AT_LEAST, -(-longest // size))
    batches = [_batches(len(examples.y), size, steps, order) for examples in train]
    for step in range(steps):
        loss = torch.zeros(())
        for task, examples in enumerate(train):
            some = batches[task][step]
            found = bank(examples.x[:, some], task)
            # A sum over probes: the gradient of each is that of its own mean.
            loss = loss + _cross_entropy(found, examples.y[some]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _batches(examples: int, size: int, steps: int, order: torch.Generator) -> list[Tensor]:
    """Numbers of examples for each step, in random order, as often around as it takes."""
    around = -(-steps * min(size, examples) // examples)
    numbers = torch.cat([torch.randperm(examples, generator=order) for _ in range(around)])
    return list(numbers[: steps * min(size, examples)].view(steps, -1))


def _cross_entropy(found: Tensor, y: Tensor) -> Tensor:
    """Mean over examples, [probes]; found [probes, examples, classes] are log-probabilities."""
    probes = len(found)
    return F.nll_loss(found.flatten(0, 1), y.repeat(probes), reduction="none").view(probes, -1).mean(dim=1)


@torch.no_grad()
def _losses(bank: Bank, held_out: Sequence[Examples]) -> Tensor:
    """[probes], nats: mean over examples, summed over tasks."""
    return sum(
        (_cross_entropy(bank(examples.x, task), examples.y) for task, examples in enumerate(held_out)),
        start=torch.zeros(bank.probes),
    )
