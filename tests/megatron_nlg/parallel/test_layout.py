from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.parallel.layout import Coordinates, Layout

size = st.integers(1, 6)
layouts = st.builds(
    Layout, pipeline=size, data=size, tensor=size, interleave=st.integers(1, 3), context=st.integers(1, 3)
)


@given(layouts)
def test_ranks_and_coordinates_are_one_to_one(layout: Layout) -> None:
    ranks = range(layout.world_size)
    assert [layout.rank(layout.coordinates(rank)) for rank in ranks] == list(ranks)
    assert len({layout.coordinates(rank) for rank in ranks}) == layout.world_size
    for at in map(layout.coordinates, ranks):
        assert 0 <= at.pipe < layout.pipeline
        assert 0 <= at.data < layout.data
        assert 0 <= at.tensor < layout.tensor
        assert 0 <= at.context < layout.context


@given(layouts)
def test_each_kind_of_group_partitions_the_ranks(layout: Layout) -> None:
    for groups, size in (
        (layout.tensor_groups(), layout.tensor),
        (layout.context_groups(), layout.context),
        (layout.data_groups(), layout.copies),
        (layout.pipeline_groups(), layout.pipeline),
    ):
        assert sorted(rank for group in groups for rank in group) == list(range(layout.world_size))
        assert {len(group) for group in groups} == {size}
        assert all(group == sorted(group) for group in groups)


@given(layouts)
def test_members_of_a_group_differ_on_its_axis_only(layout: Layout) -> None:
    for groups, axis in (
        (layout.tensor_groups(), "tensor"),
        (layout.context_groups(), "context"),
        (layout.pipeline_groups(), "pipe"),
    ):
        for group in groups:
            at = [layout.coordinates(rank) for rank in group]
            assert [getattr(a, axis) for a in at] == list(range(len(group)))
            for other in {"tensor", "context", "data", "pipe"} - {axis}:
                assert len({getattr(a, other) for a in at}) == 1


@given(layouts)
def test_a_data_group_has_all_that_hold_the_same_weights(layout: Layout) -> None:
    for group in layout.data_groups():
        at = [layout.coordinates(rank) for rank in group]
        assert len({(a.pipe, a.tensor) for a in at}) == 1
        assert {(a.data, a.context) for a in at} == {(d, c) for d in range(layout.data) for c in range(layout.context)}


@given(layouts, st.integers(1, 4))
def test_layers_are_dealt_out_once_and_in_chunk_order(layout: Layout, per_chunk: int) -> None:
    layers = layout.pipeline * layout.interleave * per_chunk
    chunks = [list(layout.layers(layers, pipe)) for pipe in range(layout.pipeline)]
    in_order = [chunks[pipe][chunk] for chunk in range(layout.interleave) for pipe in range(layout.pipeline)]
    assert [layer for chunk in in_order for layer in chunk] == list(range(layers))


def test_tensor_ranks_are_neighbours_and_stages_are_far_apart() -> None:
    layout = Layout(pipeline=2, data=2, tensor=2)
    assert layout.tensor_groups() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert layout.data_groups() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert layout.pipeline_groups() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert layout.coordinates(6) == Coordinates(pipe=1, data=1, tensor=0)


def test_mt_nlg_places_a_tensor_group_in_a_node() -> None:
    layout = Layout(pipeline=35, data=12, tensor=8)
    assert layout.world_size == 3360
    assert all(group[0] // 8 == group[-1] // 8 for group in layout.tensor_groups())


@pytest.mark.parametrize("rank", [-1, 8])
def test_a_rank_outside_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} is not one of the 8"):
        Layout(pipeline=2, data=2, tensor=2).coordinates(rank)


def test_it_says_what_it_is() -> None:
    assert str(Layout(2, 3, 4)) == "tensor 4 × pipeline 2 × data 3"
    assert str(Layout(2, 3, 4, context=5)) == "tensor 4 × pipeline 2 × context 5 × data 3"
    assert str(Layout(2, 3, 4, 2)) == "tensor 4 × pipeline 2 × 2 chunks × data 3"
