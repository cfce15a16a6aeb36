"""Where a gradient that is not finite came from: the pass is made once more, watching every parameter's gradient.

Nothing is watched until a step has failed, so that finding the place costs nothing before. All ranks make the pass
together, from the same weights, samples and dropout; when the numbers are finite this time, hardware is to be
suspected.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_nlg.model.forward import MicroBatch
from megatron_nlg.training.engine import Engine


@dataclass(frozen=True)
class Finding:
    """The first gradient that was not finite on a rank."""

    micro_batch: int
    """This rank's micro-batch of the step, from 0."""
    parameter: str
    """Global name."""
    rank: int
    node: str
    weight_is_finite: bool
    """Whether the weight itself was still finite."""


def first_non_finite(engine: Engine, micro_batches: Sequence[MicroBatch], step: int) -> dict[str, Any]:
    """Repeat the pass of a skipped step and say where it goes wrong first, the same on all ranks. Changes nothing.

    Backward passes go from the last stage and the last layer to the first, so the first gradient that is not finite is
    the nearest to the cause. Returns the fields of a Finding, or {"reproduced": False}.
    """
    context = engine.context
    seen: dict[str, int] = {}
    mine: list[Finding] = []

    def watch(name: str, weight: Tensor) -> Any:
        def look(gradient: Tensor) -> None:
            micro_batch = seen[name] = seen.get(name, -1) + 1
            if not mine and not bool(torch.isfinite(gradient).all()):
                finite = bool(torch.isfinite(weight).all())
                mine.append(Finding(micro_batch, name, context.rank, socket.gethostname(), finite))

        return weight.register_hook(look)  # type: ignore[no-untyped-call]

    hooks = [watch(item.name, item.parameter) for item in engine.parameters()]
    engine.repeat(micro_batches, step)
    for hook in hooks:
        hook.remove()
    gathered: list[Any] = [None] * context.layout.world_size
    dist.all_gather_object(gathered, mine)
    found: list[Finding] = [finding for part in gathered for finding in part]
    if not found:
        return {"reproduced": False}
    return asdict(min(found, key=lambda f: (f.micro_batch, -context.layout.coordinates(f.rank).pipe, f.rank)))
