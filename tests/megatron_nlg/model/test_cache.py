"""Passes with a cache give the logits of passes over the whole text, in every layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.model.cache import CachedModel
from megatron_nlg.model.forward import logits
from megatron_nlg.model.gpt import build_chunks
from megatron_nlg.model.kernels import choose
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.rng import seed_step
from tests.tiny import LLAMA, tiny
from tests.world import World

LENGTHS = [5, 1, 9]
STEPS = 4
TOLERANCE = 1e-5
"""Of logits of the order of 1 in fp32, whose sums are in another order."""


def both_ways(config: RunConfig) -> tuple[float, float] | None:
    """Largest difference to the full pass: of prompts and single tokens, and of pieces; None where no logits are."""
    context = ParallelContext.create(config)
    seed_step(config.seed, 0, context.at, context.device)
    chunks = build_chunks(config, context, choose(context.device, config.parallel))
    for chunk in chunks:
        chunk.eval()
    text = torch.randint(250, (3, 20), generator=torch.Generator().manual_seed(0))
    full = logits(chunks, context, text)
    model = CachedModel(chunks, context, rows=4, length=24)

    def after(*args: Any, **options: Any) -> Any:
        return model.logits(model.hidden(*args, **options))

    for pair in model.cache.kept:
        for kept in pair:
            kept.fill_(1e4)  # what an earlier text has left
    # Row 0 belongs to another text that must not be seen.
    prompts = torch.stack([torch.cat((text[i, :n], torch.full((9 - n,), 7))) for i, n in enumerate(LENGTHS)])
    steps = [(after(prompts, [0, 0, 0], [n - 1 for n in LENGTHS], first_row=1), 0)]
    for step in range(1, STEPS):
        at = [n + step - 1 for n in LENGTHS]
        steps.append((after(text[range(3), at][:, None], at, [0, 0, 0], first_row=1), step))
    whole = after(text[:, 3:12], [0, 0, 0], [8] * 3, cached=False)
    model.cache.move(3, 0, LENGTHS[2] + STEPS - 1)
    place = LENGTHS[2] + STEPS - 1
    moved = after(text[2:, place : place + 1], [place], [0])
    pieces = [after(text[:, start : start + 4], [start] * 3, [3] * 3, first_row=1) for start in range(0, 16, 4)]
    uneven = after(torch.stack([text[0, 3:6], text[1, 7:10]]), [3, 7], [2, 2], first_row=1)
    if steps[0][0] is None:
        return None
    singles = [(out - full[range(3), [n - 1 + step for n in LENGTHS]]).abs().max() for out, step in steps]
    singles += [(moved - full[2, place]).abs().max()]
    parts = [(out - full[:, 4 * i + 3]).abs().max() for i, out in enumerate(pieces)]
    parts += [(uneven - full[[0, 1], [5, 9]]).abs().max()]
    assert whole.isfinite().all()
    return float(max(singles)), float(max(parts))


@pytest.mark.parametrize("shape", ["", LLAMA])
@pytest.mark.parametrize(
    ("ranks", "layout"),
    [
        (1, ""),
        (2, "parallel.tensor=2"),
        (2, "parallel.pipeline=2"),
        (2, "parallel.pipeline=2 parallel.interleave=2"),
        (4, "parallel.tensor=2 parallel.pipeline=2"),
    ],
)
def test_logits_are_those_of_the_whole_text(world: World, shape: str, ranks: int, layout: str) -> None:
    found = world.run(ranks, both_ways, tiny(*shape.split(), *layout.split()))
    [differences] = [pair for pair in found if pair is not None]
    assert max(differences) < TOLERANCE
