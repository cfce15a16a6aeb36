"""Which ranks share a node: what is decided before nodes are chosen.

Tensor groups stay whole where they fit. A node that holds several takes them from one axis or from several: data
replicas of one stage (the axis order tp-dp-pp, MT-NLG's), stages of one replica (tp-pp-dp), or a tile of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, permutations, product
from math import factorial

import numpy as np

from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.traffic import Numbers

IRREGULAR, MANY = "irregular", 300
"""As long as there are no more ways to share tensor groups out to nodes, all of them are tried."""


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Ranks of each virtual node; these are numbered by their lowest ranks."""

    name: str
    node: Numbers
    """[ranks]: virtual node of each."""

    @property
    def irregular(self) -> bool:
        """Whether it is neither an axis order nor made of tiles."""
        return self.name.startswith(IRREGULAR)


def arrangements(layout: Layout, per_node: int) -> list[Arrangement]:
    """All ways to fill nodes of `per_node` ranks, the default first; those with the same nodes once."""
    found: dict[bytes, Arrangement] = {}
    for name, node in chain(*(ways(layout, per_node) for ways in (_orders, _tiles, _any))):
        _, first, number = np.unique(node, return_index=True, return_inverse=True)
        ordered = np.argsort(np.argsort(first))[number]
        found.setdefault(ordered.tobytes(), Arrangement(name, ordered))
    return list(found.values())


def axis_orders(layout: Layout) -> Iterator[tuple[str, Numbers]]:
    """(name, ranks in the order) of the axes in any order, tensor parallelism fastest; Layout's own first."""
    shape = (layout.pipeline, layout.data, layout.context, layout.tensor)
    names = {0: "pp", 1: "dp", 2: "cp"}
    for axes in permutations((0, 1, 2)):
        used = [names[axis] for axis in reversed(axes) if shape[axis] > 1]
        yield "-".join(["tp", *used]), np.arange(layout.world_size).reshape(shape).transpose(*axes, 3).ravel()


def _orders(layout: Layout, per_node: int) -> Iterator[tuple[str, Numbers]]:
    """Blocks of ranks in each order of the axes."""
    for name, ranks in axis_orders(layout):
        node = np.empty(layout.world_size, dtype=np.int64)
        node[ranks] = np.arange(layout.world_size) // per_node
        yield name, node


def _tiles(layout: Layout, per_node: int) -> Iterator[tuple[str, Numbers]]:
    """Tiles of context × data × pipe that fill a node and the axes exactly."""
    shape = (layout.pipeline, layout.data, layout.context)
    slots, rest = divmod(per_node, layout.tensor)
    if rest or slots < 2:
        return
    ranks = np.arange(layout.world_size) // layout.tensor
    pipe, data, context = (axis[ranks] for axis in np.unravel_index(np.arange(ranks.max() + 1), shape))
    for size in product(*([cut for cut in range(1, slots + 1) if n % cut == 0] for n in shape)):
        if np.prod(size) == slots:
            across = (shape[1] // size[1], shape[2] // size[2])
            number = (pipe // size[0] * across[0] + data // size[1]) * across[1] + context // size[2]
            sides = zip(size, ("stages", "replicas", "context ranks"), strict=True)
            yield f"tiles of {' × '.join(f'{n} {what}' for n, what in sides if n > 1)}", number


def complete(layout: Layout, per_node: int) -> bool:
    """Whether `arrangements` gives every way to share out whole tensor groups."""
    slots, rest = divmod(per_node, layout.tensor)
    groups = layout.world_size // layout.tensor
    if rest or slots < 2:
        return layout.tensor % per_node == 0
    if groups > 16:
        return groups == slots
    ways = factorial(groups) // factorial(groups // slots)
    for _ in range(groups // slots):
        ways //= factorial(slots)
    return ways <= MANY


def _any(layout: Layout, per_node: int) -> Iterator[tuple[str, Numbers]]:
    """Every way to share out few tensor groups, however irregular."""
    slots, groups = per_node // layout.tensor, layout.world_size // layout.tensor
    if slots < 2 or not complete(layout, per_node):
        return
    for number, parts in enumerate(_partitions(tuple(range(groups)), slots)):
        node = np.empty(groups, dtype=np.int64)
        for at, part in enumerate(parts):
            node[list(part)] = at
        yield f"{IRREGULAR} {number}", np.repeat(node, layout.tensor)


def _partitions(items: tuple[int, ...], size: int) -> Iterator[list[tuple[int, ...]]]:
    if not items:
        yield []
    for others in combinations(items[1:], size - 1) if items else ():
        part = (items[0], *others)
        for parts in _partitions(tuple(item for item in items if item not in part), size):
            yield [part, *parts]
