"""Ways to fill nodes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from launch.placement.arrangement import arrangements, complete
from megatron_nlg.parallel.layout import Layout


def nodes(layout: Layout, per_node: int) -> dict[str, list[int]]:
    return {one.name: one.node.tolist() for one in arrangements(layout, per_node)}


def test_the_first_is_slurms_own() -> None:
    for layout in (Layout(4, 6, 2), Layout(3, 2, 4, context=2), Layout(1, 8, 1)):
        assert arrangements(layout, 4)[0].node.tolist() == (np.arange(layout.world_size) // 4).tolist()


def test_a_node_holds_replicas_or_stages_or_tiles_of_both() -> None:
    found = nodes(Layout(4, 4, 2), 8)
    assert found["tp-dp-pp"][:8] == [0] * 8, "four replicas of the first stage"
    assert [rank for rank, node in enumerate(found["tp-pp-dp"]) if node == 0] == [0, 1, 8, 9, 16, 17, 24, 25]
    tile = found["tiles of 2 stages × 2 replicas"]
    assert [rank for rank, node in enumerate(tile) if node == 0] == [0, 1, 2, 3, 8, 9, 10, 11]


def test_with_one_tensor_group_a_node_there_is_nothing_to_choose() -> None:
    assert list(nodes(Layout(35, 8, 8), 8)) == ["tp-dp-pp"]
    assert list(nodes(Layout(2, 2, 16), 8)) == ["tp-dp-pp"]


LAYOUTS = (Layout(4, 3, 1), Layout(2, 4, 2), Layout(5, 2, 2, context=2), Layout(3, 3, 1))


@pytest.mark.parametrize(
    ("layout", "per_node"),
    [
        (layout, slots * layout.tensor)
        for layout, slots in product(LAYOUTS, (1, 2, 3, 4))
        if layout.world_size % (slots * layout.tensor) == 0
    ],
)
def test_nodes_are_full_and_tensor_groups_whole(layout: Layout, per_node: int) -> None:
    for one in arrangements(layout, per_node):
        assert set(np.bincount(one.node).tolist()) == {per_node}
        assert all(len(set(one.node[group].tolist())) == 1 for group in layout.tensor_groups())


def test_all_ways_are_tried_while_they_are_few() -> None:
    assert len(arrangements(Layout(2, 4), 2)) == 105, "8! / (2!^4 4!)"
    assert complete(Layout(2, 4), 2)
    assert complete(Layout(35, 8, 8), 8)
    assert not complete(Layout(8, 8), 2)
