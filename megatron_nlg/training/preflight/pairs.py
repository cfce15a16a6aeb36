"""Who is measured against whom: rounds of disjoint pairs of nodes, so that N/2 pairs run at a time. Pure Python."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, product

Pair = tuple[str, str]


def rounds(leaves: Sequence[Sequence[str]], most: int) -> list[list[Pair]]:
    """At most `most` rounds within leaves, then as many across them. No node is twice in a round."""
    within = [circle(leaf) for leaf in leaves]
    inside = [
        [pair for leaf in within if i < len(leaf) for pair in leaf[i]] for i in range(max(map(len, within), default=0))
    ]
    across = ([*_meet(leaves, matching, turn)] for turn, matching in _turns(leaves))
    return [*inside[:most], *islice(filter(None, across), most)]


def circle(members: Sequence[str]) -> list[list[Pair]]:
    """All pairs in the fewest rounds, by the circle method; with an odd number each has one round off."""
    if len(members) < 2:
        return []
    fixed, *others = [*members] if len(members) % 2 == 0 else [None, *members]
    out = []
    for turn in range(len(others)):
        ring = [fixed, *others[turn:], *others[:turn]]
        half = len(ring) // 2
        sides = zip(ring[:half], reversed(ring[half:]), strict=True)
        out.append([(a, b) for a, b in sides if a is not None and b is not None])
    return out


def _turns(leaves: Sequence[Sequence[str]]) -> Sequence[tuple[int, list[Pair]]]:
    """(turn, leaves that meet): every matching of leaves once, then again with nodes moved by one, …"""
    matchings = circle([str(i) for i in range(len(leaves))])
    return [*product(range(max(map(len, leaves), default=0)), matchings)]


def _meet(leaves: Sequence[Sequence[str]], matching: list[Pair], turn: int) -> list[Pair]:
    """The k-th node of one leaf with the (k + turn)-th of the other, as far as the smaller one goes."""
    out = []
    for one, other in matching:
        small, large = sorted((leaves[int(one)], leaves[int(other)]), key=len)
        out += [(node, large[(k + turn) % len(large)]) for k, node in enumerate(small)]
    return out
