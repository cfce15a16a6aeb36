"""Silent corruption: ranks that must hold the same weights compare checksums of their bits.

What is compared: a parameter over its data- and context-parallel replicas (ZeRO-1 and 2; ZeRO-3 cuts weights, and each
part exists once), and what tensor parallelism does not cut over the tensor ranks, which each compute it by themselves.
Under ZeRO the fp32 master weights and moments exist once: a wrong bit in them reaches all replicas alike, and is not
seen here.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_nlg.config.errors import NodeFaultError
from megatron_nlg.training.engine import Engine

COLUMNS = 4096


@dataclass(frozen=True)
class Difference:
    """A parameter that is not the same everywhere."""

    parameter: str
    ranks: tuple[int, ...]
    """Those in the minority, or all where there is none."""
    of: int
    """Ranks that should hold the same."""


def compare_replicas(engine: Engine, step: int) -> None:
    """Raise NodeFaultError, on all ranks and naming ranks and parameter, when replicas differ. Collective."""
    context, layout = engine.context, engine.context.layout
    items = list(engine.parameters())
    found: list[Difference] = []
    if layout.copies > 1 and engine.config.parallel.zero_stage < 3:
        mine = checksums([item.parameter.data for item in items])
        found += _differences([item.name for item in items], mine, context.data_group)
    if layout.tensor > 1:
        # Under ZeRO-3 each data-parallel rank holds a part, cut in the same way on all tensor ranks.
        whole = [item for item in items if item.cut is None]
        mine = checksums([getattr(item.parameter, "ds_tensor", item.parameter).data for item in whole])
        found += _differences([item.name for item in whole], mine, context.tensor_group)
    gathered: list[Any] = [None] * layout.world_size
    dist.all_gather_object(gathered, (socket.gethostname(), found))
    nodes = [node for node, _ in gathered]
    different = sorted(
        {difference for _, part in gathered for difference in part}, key=lambda d: (d.ranks, d.parameter)
    )
    if different:
        raise NodeFaultError(_message(different, nodes, step))


def checksums(tensors: Sequence[Tensor]) -> Tensor:
    """One int64 a tensor, on its device: [tensors]. A single wrong bit, or two that swap places, changes it.

    The bits, as integers, are summed over rows and columns, and the sums are weighted by odd numbers; all of it wraps
    around at 2**64. No copy of a tensor is made.
    """
    if not tensors:
        return torch.zeros(0, dtype=torch.int64)
    return torch.stack([_checksum(tensor) for tensor in tensors])


def _checksum(tensor: Tensor) -> Tensor:
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.contiguous().view(-1).view(kinds[tensor.element_size()])
    whole = bits.numel() // COLUMNS * COLUMNS
    rows = bits[:whole].view(-1, COLUMNS)
    rest = bits[whole:].long()
    return (
        (rows.sum(0, dtype=torch.int64) * _weights(COLUMNS, bits.device)).sum()
        + (rows.sum(1, dtype=torch.int64) * _weights(len(rows), bits.device) * 0x10001).sum()
        + (rest * _weights(len(rest), bits.device) * 0x1000003).sum()
    )


def _weights(count: int, device: torch.device) -> Tensor:
    """Odd numbers, so that no bit's weight vanishes modulo 2**64."""
    return torch.arange(count, dtype=torch.int64, device=device) * 0x9E3779B1 * 2 + 1


def _differences(names: Sequence[str], mine: Tensor, group: Any) -> list[Difference]:
    """Parameters whose checksums are not the same over a group, with the ranks that differ from the most."""
    ranks = dist.get_process_group_ranks(group)
    parts = [torch.empty_like(mine) for _ in ranks]
    dist.all_gather(parts, mine, group=group)
    table = torch.stack(parts)  # [ranks, parameters]
    found = []
    for column in (table != table[0]).any(0).nonzero().flatten().tolist():
        values = table[:, column].tolist()
        (usual, most), *_ = Counter(values).most_common(1)
        minority = tuple(rank for rank, value in zip(ranks, values, strict=True) if value != usual)
        # Two against two, or one against one, says that there is a fault and not whose.
        found.append(Difference(names[column], minority if 2 * most > len(ranks) else tuple(ranks), len(ranks)))
    return found


def _message(different: Sequence[Difference], nodes: Sequence[str], step: int) -> str:
    first = different[0]
    who = ", ".join(f"rank {rank} (node {nodes[rank]})" for rank in first.ranks)
    whose = "differs from the other replicas" if len(first.ranks) < first.of else "differ, and no majority says whose"
    more = f" and {len(different) - 1} more" if len(different) > 1 else ""
    return (
        f"weights are corrupted after step {step}: {first.parameter}{more} of {who} {whose}; check the node, and start "
        "the same command again without it: training goes on from the last checkpoint"
    )
