"""Who sends how much to whom in a step: the collectives of `communication` as bytes between pairs of ranks.

A ring passes a group's buffer from member to member in the order of the group; where it leaves a node it is split into
channels, one a member on that node, as NCCL does it to use all their network cards. Recursive halving and doubling
exchanges with partners at distance 1, 2, 4, …, the largest pieces with the nearest. A hierarchical collective runs in
each part of the group first (a node's, a leaf switch's), then between the parts, each member with its own piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.communication import Group, Operation, Transfer, share_sent, step_transfers

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Algorithm = Literal["ring", "recursive", "hierarchical"]
KINDS: tuple[Group, ...] = ("tensor", "context", "pipeline", "copies", "ends")


@dataclass(frozen=True)
class Exchange:
    """Groups of one kind that do the same: `calls` of an operation on a buffer each in a step."""

    kind: Group
    operation: Operation
    members: Numbers
    """[groups, n]: ranks in the order of their group; sender and receiver of a send."""
    calls: int
    bytes: float
    """Of one call's whole buffer."""


@dataclass(frozen=True)
class Flows:
    """Bytes a step from rank to rank, and what latency multiplies."""

    source: Numbers
    target: Numbers
    bytes: Floats
    rounds: int
    """Messages of a rank that wait for each other: each costs the latency of the farthest."""

    def between(self, place: Numbers) -> Flows:
        """Summed by place, `place[rank]` such as its node; what stays in one place is left out."""
        source, target = place[self.source], place[self.target]
        away = source != target
        width = int(place.max(initial=0)) + 1
        pairs, index = np.unique(source[away] * width + target[away], return_inverse=True)
        total = np.bincount(index, self.bytes[away], len(pairs)).astype(np.float64)
        return Flows(pairs // width, pairs % width, total, self.rounds)


def step_exchanges(config: RunConfig, layout: Layout, micro_batches: int) -> list[Exchange]:
    """All exchanges of a step, `micro_batches` per replica. Stages that do the same are put together."""
    stages: dict[tuple[Transfer, ...], list[int]] = {}
    for pipe in range(layout.pipeline):
        stages.setdefault(tuple(step_transfers(config, layout, micro_batches, pipe)), []).append(pipe)
    exchanges = []
    for transfers, pipes in stages.items():
        for transfer in transfers:
            if transfer.group == "ends" and 0 not in pipes:
                continue  # the first stage's has both
            members = _members(layout, transfer, pipes)
            exchanges.append(Exchange(transfer.group, transfer.operation, members, transfer.calls, transfer.bytes))
    return exchanges


def _members(layout: Layout, transfer: Transfer, pipes: Sequence[int]) -> Numbers:
    ranks = np.arange(layout.world_size).reshape(layout.pipeline, layout.data, layout.context, layout.tensor)
    own = ranks[list(pipes)]
    if transfer.operation == "send":
        to = 1 if transfer.phase == "forward" else -1
        other = ranks[[(pipe + to) % layout.pipeline for pipe in pipes]]
        return np.stack([own.ravel(), other.ravel()], axis=1)
    if transfer.group == "tensor":
        return own.reshape(-1, layout.tensor)
    if transfer.group == "context":
        return own.transpose(0, 1, 3, 2).reshape(-1, layout.context)
    if transfer.group == "copies":
        return own.transpose(0, 3, 1, 2).reshape(-1, layout.copies)
    return ranks[[0, -1]].reshape(2, -1).T


def flows(
    exchanges: Sequence[Exchange],
    kind: Group,
    node: Numbers,
    algorithm: Algorithm = "ring",
    part: Numbers | None = None,
) -> Flows:
    """Bytes from rank to rank of one kind.

    `node[rank]` is the rank's node, for the channels of rings; `part[rank]` is the part of its group that a
    hierarchical collective runs in first, its node when not given. A group that an algorithm does not fit (its size
    no power of two, parts of unequal size) uses a ring.
    """
    edges: list[Edges] = []
    rounds: dict[int, int] = {}  # by a rank that takes part: its exchanges wait for each other
    for exchange in exchanges:
        if exchange.kind != kind:
            continue
        if exchange.operation == "send":
            found, waits = [_edges(exchange.members[:, 0], exchange.members[:, 1], 1.0)], 1
        else:
            found, waits = _collective(exchange, algorithm, node, node if part is None else part)
        total = exchange.calls * exchange.bytes
        edges.extend(Edges(source, target, share * total) for source, target, share in found)
        first = int(exchange.members[0, 0])
        rounds[first] = rounds.get(first, 0) + waits * exchange.calls
    if not edges:
        edges = [_edges(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 0.0)]
    source, target, amount = (np.concatenate(parts) for parts in zip(*edges, strict=True))
    return Flows(source, target, amount, max(rounds.values(), default=0))


class Edges(NamedTuple):
    """Who sends what share of a buffer (or how many bytes) to whom."""

    source: Numbers
    target: Numbers
    share: Floats


def _edges(source: Numbers, target: Numbers, share: float) -> Edges:
    return Edges(source.ravel(), target.ravel(), np.full(source.size, share))


def _collective(exchange: Exchange, algorithm: Algorithm, node: Numbers, part: Numbers) -> tuple[list[Edges], int]:
    """Edges in shares of the buffer, and messages that follow each other."""
    members, operation = exchange.members, exchange.operation
    both, n = 2 if operation == "all_reduce" else 1, members.shape[1]
    if algorithm == "recursive" and n & (n - 1) == 0:
        steps = [2**step for step in range(n.bit_length() - 1)]
        return [_edges(members, members[:, np.arange(n) ^ step], both / (2 * step)) for step in steps], both * len(
            steps
        )
    if algorithm != "hierarchical":
        return [_ring(members, share_sent(operation, n), node)], both * (n - 1)
    edges, most = [], 0  # type: list[Edges], int
    for rows in _by_parts(members, part):
        parts, size = rows.shape[1:]
        inner, outer = rows.reshape(-1, size), rows.transpose(0, 2, 1).reshape(-1, parts)
        if size > 1:
            edges.append(_ring(inner, share_sent(operation, size), node))
        if parts > 1:
            edges.append(_ring(outer, share_sent(operation, parts) / size, node))
        most = max(most, both * (size - 1 + parts - 1))
    return edges, most


def _by_parts(members: Numbers, part: Numbers) -> Iterator[Numbers]:
    """Groups as [groups, parts, size of a part], by shape; a group with uneven parts is one part of its own order."""
    order = np.argsort(part[members], axis=1, kind="stable")
    ordered = np.take_along_axis(members, order, axis=1)
    number = 1 + np.count_nonzero(np.diff(part[ordered], axis=1), axis=1)
    for parts in np.unique(number):
        rows, even = number == parts, np.zeros(len(members), dtype=bool)
        if members.shape[1] % parts == 0:
            cut = part[ordered[rows]].reshape(-1, parts, members.shape[1] // parts)
            even[rows] = (cut == cut[:, :, :1]).all(axis=(1, 2))
        if even.any():
            yield ordered[even].reshape(-1, parts, members.shape[1] // parts)
        if (rows & ~even).any():
            yield members[rows & ~even][:, None, :]


def _ring(members: Numbers, share: float, node: Numbers) -> Edges:
    """Each member sends `share` to the next; where that leaves the node, channels carry equal parts of it.

    Channel c goes around the group's members on a node beginning with the c-th: each then sends all but one channel's
    part within the node.
    """
    n = members.shape[1]
    ranks, following = members.ravel(), np.roll(members, -1, axis=1).ravel()
    leaves = node[ranks] != node[following]
    cell = np.repeat(np.arange(len(members)), n) * (int(node.max()) + 1) + node[ranks]
    _, cell, count = np.unique(cell, return_inverse=True, return_counts=True)
    if not leaves.any() or count.max() == 1:
        return _edges(ranks, following, share)
    order = np.argsort(cell, kind="stable")
    start, by_cell = np.cumsum(count) - count, ranks[order]
    once = (np.bincount(cell, leaves) == 1) & (count > 1)  # the group's members on the node follow each other
    rest = np.where(once, (count - 1) / count, 1.0) * share
    inside, ends = ~leaves, leaves & once[cell]
    enters = np.zeros(len(count), dtype=np.int64)
    enters[cell[np.roll(leaves.reshape(-1, n), 1, axis=1).ravel()]] = ranks[
        np.roll(leaves.reshape(-1, n), 1, axis=1).ravel()
    ]
    here, there = cell[leaves], np.roll(cell.reshape(-1, n), -1, axis=1).ravel()[leaves]
    channels = np.maximum(count[here], count[there])
    number = np.arange(channels.sum()) - np.repeat(np.cumsum(channels) - channels, channels)
    here, there, width = np.repeat(here, channels), np.repeat(there, channels), np.repeat(channels, channels)
    return Edges(
        np.concatenate([ranks[inside], ranks[ends], by_cell[start[here] + number % count[here]]]),
        np.concatenate([following[inside], enters[cell[ends]], by_cell[start[there] + number % count[there]]]),
        np.concatenate([rest[cell[inside]], rest[cell[ends]], share / width]),
    )
