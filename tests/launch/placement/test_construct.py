"""Orders of leaves in which tiles end where leaves do."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.placement.construct import align
from megatron_nlg.config.cluster import Level
from megatron_nlg.planning.fabric import Fabric

LEVELS = tuple(Level(name=name, bandwidth_gbs=1) for name in ("gpu", "node", "leaf"))


def leaves(*sizes: int) -> Fabric:
    under = tuple(leaf for leaf, size in enumerate(sizes) for _ in range(size))
    names = tuple(f"n{i}" for i in range(len(under))), tuple(f"l{i}" for i in range(len(sizes)))
    return Fabric(LEVELS, 1, names, (under,))


def parts(fabric: Fabric, nodes: np.ndarray, tile: int) -> list[int]:
    """Of each leaf: how many tiles have a part, but not all, in it."""
    leaf = fabric.paths[1][nodes]
    cut = [set(leaf[first : first + tile].tolist()) for first in range(0, len(nodes) // tile * tile, tile)]
    return [sum(len(tile_) > 1 and own in tile_ for tile_ in cut) for own in range(len(fabric.members[1]))]


def test_every_leaf_has_a_part_of_one_tile_at_most() -> None:
    fabric = leaves(8, 5, 12, 5, 7, 12, 8, 5)
    nodes = align(fabric, 12, 2)
    assert max(parts(fabric, nodes[:60], 12)) == 1
    assert max(parts(fabric, np.arange(60), 12)) == 2, "as the leaves come"


def test_three_leaves_make_a_tile() -> None:
    fabric = leaves(5, 10, 4, 3)
    assert sorted(fabric.paths[1][align(fabric, 12, 0)[:12]].tolist()) == [0] * 5 + [2] * 4 + [3] * 3


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 20), st.integers(0, 5))
def test_no_node_is_lost(sizes: list[int], tile: int, spare: int) -> None:
    fabric = leaves(*sizes)
    assert sorted(align(fabric, tile, spare).tolist()) == list(range(sum(sizes)))
