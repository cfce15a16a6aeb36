"""First seatings: rows of virtual nodes laid along the tree, in many orders and cuts.

The virtual nodes are a grid of stages × replicas. Tiles of it, from single rows (a stage's replicas, a replica's
stages) to blocks, follow each other through the leaves in the order of the tree; either simply cut where a leaf ends,
or whole tiles first, and those that fit in no leaf over what is left of all leaves, or with leaves in an order in which
many tiles end where a leaf does.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np

from launch.placement.problem import Problem
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.traffic import Numbers

TILES = 64
"""Shapes of tiles that are tried, at most."""
MOST_WASTE, TRIPLES = 8, 24
"""Spare nodes left out in one place, at most; leaves of a switch among which threes are looked for, at most."""


def seatings(problem: Problem, layout: Layout) -> Iterator[Numbers]:
    """Distinct candidates: [virtual nodes] node of each."""
    seen: set[bytes] = set()
    walks = list(_walks(problem.fabric))
    spare = len(problem.fabric.nodes) - problem.size
    aligned: dict[int, Numbers] = {}
    for order, tile in _orders(problem, layout, max(int(sizes.max(initial=1)) for _, sizes in walks)):
        if tile not in aligned:
            aligned[tile] = align(problem.fabric, tile, spare)
        found = [_cut(order, aligned[tile])]
        for nodes, sizes in walks:
            found += [_cut(order, nodes), _whole(order, nodes, sizes, tile)]
        for seating in found:
            if seating.tobytes() not in seen:
                seen.add(seating.tobytes())
                yield seating


def _walks(fabric: Fabric) -> Iterator[tuple[Numbers, Numbers]]:
    """Nodes in the order of the tree, as named, large parts first, small parts first; and how many each leaf has."""
    for sign in (0, -1, 1):
        keys = [np.arange(len(fabric.nodes))]
        for path in fabric.paths[1:]:
            keys += [path, sign * np.bincount(path)[path]]
        nodes = np.lexsort(keys)
        leaf = fabric.paths[1][nodes] if len(fabric.paths) > 1 else np.zeros(len(nodes), dtype=np.int64)
        starts = np.flatnonzero(np.diff(leaf, prepend=-1))
        yield nodes, np.diff(np.append(starts, len(nodes)))
        if not sign and len({*np.bincount(leaf).tolist()}) == 1:
            return


def _orders(problem: Problem, layout: Layout, leaf: int) -> Iterator[tuple[Numbers, int]]:
    """Virtual nodes tile after tile, and how many a tile has."""
    _, first = np.unique(problem.arrangement.node, return_index=True)
    pipe, data, rest = np.unravel_index(first, (layout.pipeline, layout.data, layout.context * layout.tensor))
    row, column = (np.unique(axis, return_inverse=True)[1] for axis in (pipe, data))
    rows, columns = int(row.max()) + 1, int(column.max()) + 1
    deep = max(1, problem.size // (rows * columns))  # virtual nodes of the same stage and replica
    for high, wide in _shapes(rows, columns, max(1, leaf // deep)):
        inner, outer = (row % high, column % wide), (row // high, column // wide)
        for swap in (False, True):
            a, b = outer[::-1] if swap else outer
            yield np.lexsort((rest, inner[1], inner[0], b, a)), high * wide * deep


def _shapes(rows: int, columns: int, leaf: int) -> list[tuple[int, int]]:
    """Whole rows and columns, and tiles that fill leaves best."""
    whole = [(1, columns), (rows, 1)]
    tiles = [
        (high, wide)
        for high, wide in product(range(1, min(rows, leaf) + 1), range(1, min(columns, leaf) + 1))
        if high * wide <= leaf and (high, wide) not in whole
    ]
    tiles.sort(key=lambda tile: (leaf % (tile[0] * tile[1]), -tile[0] * tile[1], tile))
    return [*whole, *tiles[:TILES]]


def _cut(order: Numbers, nodes: Numbers) -> Numbers:
    seating = np.empty(len(order), dtype=np.int64)
    seating[order] = nodes[: len(order)]
    return seating


def _whole(order: Numbers, nodes: Numbers, sizes: Numbers, tile: int) -> Numbers:
    """Whole tiles in leaves first. The nodes that stay empty are among what is left of the leaves."""
    within = np.arange(len(nodes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    full = within < np.repeat(sizes // tile * tile, sizes)
    return _cut(order, np.concatenate([nodes[full], nodes[~full]]))


def align(fabric: Fabric, tile: int, spare: int) -> Numbers:
    """Nodes in an order in which tiles end where leaves end, as far as one, two or three leaves hold whole tiles.

    No leaf among these has more than two parts of tiles. Spare nodes are left out where that makes it come out even;
    they come last.
    """
    if len(fabric.paths) < 2:
        return np.arange(len(fabric.nodes))
    below: dict[int, list[int]] = {}
    siblings: dict[tuple[int, ...], list[int]] = {}
    for node in np.lexsort(fabric.paths).tolist():
        leaf = int(fabric.paths[1][node])
        if leaf not in below:
            siblings.setdefault(tuple(fabric.paths[2:, node].tolist()), []).append(leaf)
        below.setdefault(leaf, []).append(node)
    order: list[int] = []
    last: list[int] = []
    for leaves in siblings.values():
        rest = leaves
        for waste in range(min(spare, tile - 1, MOST_WASTE) + 1):
            for leaves_together in _sets(rest, below, tile, waste):
                if waste > spare - len(last):
                    break
                rest = [leaf for leaf in rest if leaf not in leaves_together]
                nodes = [node for leaf in leaves_together for node in below[leaf]]
                order += nodes[: len(nodes) - waste]
                last += nodes[len(nodes) - waste :]
        order += [node for leaf in rest for node in below[leaf]]
    return np.array(order + last)


def _sets(leaves: list[int], below: dict[int, list[int]], tile: int, waste: int) -> Iterator[tuple[int, ...]]:
    """Disjoint sets of one to three leaves that hold whole tiles and `waste` nodes more."""
    free = dict.fromkeys(leaves)
    for count in (1, 2, 3) if len(leaves) <= TRIPLES else (1, 2):
        for few in combinations(leaves, count - 1):
            if any(leaf not in free for leaf in few):
                continue
            missing = (waste - sum(len(below[leaf]) for leaf in few)) % tile
            fits = (leaf for leaf in free if leaf not in few and len(below[leaf]) % tile == missing)
            if (other := next(fits, None)) is not None:
                for leaf in (*few, other):
                    del free[leaf]
                yield (*few, other)
