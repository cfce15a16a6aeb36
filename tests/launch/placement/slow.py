"""What placements cost, counted message by message, and the best of all of them: slow, and written for its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction

from megatron_nlg.planning.communication import share_sent
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.traffic import Exchange

Link = tuple[int, int, int, str]
"""Level, member, rail, direction."""


def messages(exchange: Exchange, node: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """(source, target, bytes) of rings with a channel for each member on a node, and of sends."""
    total = exchange.calls * exchange.bytes
    for row in exchange.members.tolist():
        if exchange.operation == "send":
            yield row[0], row[1], total
            continue
        amount = total * share_sent(exchange.operation, len(row))
        on = defaultdict(list)
        for rank in row:
            on[node[rank]].append(rank)
        following = dict(zip(row, row[1:] + row[:1], strict=True))
        exits = Counter(node[a] for a, b in following.items() if node[a] != node[b])
        for a, b in following.items():
            here, there = on[node[a]], on[node[b]]
            if node[a] == node[b]:
                once = exits[node[a]] == 1
                yield a, b, amount * (len(here) - 1) / len(here) if once else amount
                continue
            channels = max(len(here), len(there))
            for channel in range(channels):
                yield here[channel % len(here)], there[channel % len(there)], amount / channels
            if exits[node[a]] == 1 and len(here) > 1:
                entry = next(r for r in here if node[row[row.index(r) - 1]] != node[a])
                yield a, entry, amount * (len(here) - 1) / len(here)


def loads(fabric: Fabric, exchanges: Sequence[Exchange], node: Sequence[int]) -> dict[str, dict[Link, float]]:
    """Kind -> link -> bytes."""
    gpu: list[int] = []
    for rank, at in enumerate(node):
        gpu.append(node[:rank].count(at))
    found: dict[str, dict[Link, float]] = {}
    for exchange in exchanges:
        links = found.setdefault(exchange.kind, defaultdict(float))
        for a, b, amount in messages(exchange, node):
            for one, other, way in ((a, b, "up"), (b, a, "down")):
                links[0, node[one] * fabric.gpus_per_node + gpu[one], 0, way] += amount
                for level, path in enumerate(fabric.paths.tolist(), 1):
                    if path[node[one]] != path[node[other]]:
                        rail = int(Fraction(gpu[one] * fabric.levels[level].rails, fabric.gpus_per_node))
                        links[level, path[node[one]], rail, way] += amount
    return found


def seconds(fabric: Fabric, exchanges: Sequence[Exchange], node: Sequence[int]) -> float:
    """Of a step."""
    total = 0.0
    for kind, links in loads(fabric, exchanges, node).items():
        total += max(
            amount / float(fabric.bandwidth(level)[member if level else 0])
            for (level, member, _, _), amount in links.items()
        )
        waits: Counter[int] = Counter()
        for exchange in exchanges:
            if exchange.kind == kind:
                n = exchange.members.shape[1]
                each = {"send": 1, "all_reduce": 2 * (n - 1)}.get(exchange.operation, n - 1)
                waits[int(exchange.members[0, 0])] += each * exchange.calls
        total += max(waits.values()) * fabric.latency(max(level for level, *_ in links))
    return total


def fastest(fabric: Fabric, exchanges: Sequence[Exchange], tensor: int, per_node: int, ranks: int) -> tuple[float, int]:
    """The least seconds of all placements with tensor groups whole, and how many there are.

    With one tensor group a node, nodes under the same leaf are alike when their links are: one of them stands for all.
    """
    slots = per_node // tensor
    cells = ranks // tensor
    leaf = fabric.paths[-1].tolist() if slots == 1 and len(fabric.paths) == 2 else list(range(len(fabric.nodes)))
    room = Counter(leaf)
    nodes_of = {bin_: [node for node, at in enumerate(leaf) if at == bin_] for bin_ in room}
    best, count = float("inf"), 0
    for bins in _assignments(cells, {at: size * slots for at, size in room.items()}):
        free = {at: iter([node for node in nodes for _ in range(slots)]) for at, nodes in nodes_of.items()}
        cell_node = [next(free[at]) for at in bins]
        best = min(best, seconds(fabric, exchanges, [cell_node[rank // tensor] for rank in range(ranks)]))
        count += 1
    return best, count


def _assignments(cells: int, room: dict[int, int]) -> Iterator[list[int]]:
    """All ways to put cells in bins with room, each bin's nodes filled."""
    if cells == 0:
        yield []
        return
    for at in list(room):
        if room[at]:
            rest = room | {at: room[at] - 1}
            for others in _assignments(cells - 1, rest):
                yield [at, *others]
