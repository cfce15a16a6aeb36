"""Documents packed in one sample train as each would alone, in every kind of layout."""

from __future__ import annotations

import pytest
import torch

from megatron_nlg.data.documents import Boundaries
from megatron_nlg.model.forward import MicroBatch
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine
from tests.tiny import tiny
from tests.world import World

EOD, CUT = 249, 13
RESET = ("data.reset_attention=true", "data.reset_positions=true")


def losses(*overrides: str) -> tuple[list[float], list[float]]:
    """Loss of every token of two documents in one sample, and of each document alone at the start of one."""
    config = tiny("batch.micro=1", "batch.global=2", *RESET, *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    text = torch.randint(0, EOD, (1, 33), generator=torch.Generator().manual_seed(1))
    text[0, CUT - 1] = EOD
    packed, labels = text[:, :-1], text[:, 1:]
    mark = Boundaries.of(config.data, EOD).mark

    def by_token(tokens: torch.Tensor, labels: torch.Tensor, count: int = 32) -> list[float]:
        found = []
        for place in range(count):
            mask = torch.zeros(1, 32)
            mask[0, place] = 1
            batch: MicroBatch = mark({"tokens": tokens, "labels": labels, "loss_mask": mask})
            copies = context.layout.pipeline if context.layout.interleave > 1 else 1
            found.append(float(engine.evaluate([batch] * copies)))
        return found

    second = torch.roll(packed, -CUT, dims=1), torch.roll(labels, -CUT, dims=1)
    # The first document alone: what follows can't be seen. The second: moved to the start of a sample.
    first = packed.clone()
    first[0, CUT:] = 0
    alone = [*by_token(first, labels, CUT), *by_token(*second, 32 - CUT)]
    together = by_token(packed, labels)
    engine.destroy()
    return together, alone


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        (1, "parallel.recompute=full"),
        (4, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true parallel.recompute=selective"),
        (2, "parallel.pipeline=2 parallel.interleave=2"),
        (4, "parallel.context=2 parallel.tensor=2 parallel.sequence=true"),
        (2, "parallel.context=2 parallel.recompute=full"),
    ],
)
def test_packed_documents_equal_each_alone(world: World, ranks: int, overrides: str) -> None:
    for together, alone in world.run(ranks, losses, *overrides.split()):
        assert together == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("without", RESET)
def test_without_a_reset_they_see_each_other(world: World, without: str) -> None:
    """The test above can fail: each of the two settings matters."""
    [(together, alone)] = world.run(1, losses, without.replace("true", "false"))
    assert together[:CUT] == pytest.approx(alone[:CUT], rel=1e-5)
    assert max(abs(a - b) for a, b in zip(together[CUT:], alone[CUT:], strict=True)) > 1e-4
