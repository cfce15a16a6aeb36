"""Bytes between pairs of ranks: nothing is lost, whatever the algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.communication import share_sent, step_transfers
from megatron_nlg.planning.traffic import KINDS, Algorithm, Exchange, flows, step_exchanges
from tests.tiny import tiny

LAYOUTS = [Layout(2, 3, 2), Layout(4, 2, 1), Layout(1, 4, 2), Layout(2, 2, 2, context=2), Layout(2, 2, 2, 2), Layout()]


def all_reduce(members: list[list[int]], amount: float = 12.0) -> list[Exchange]:
    return [Exchange("copies", "all_reduce", np.array(members), 2, amount)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("sequence", [False, True])
def test_every_rank_sends_what_its_transfers_say(layout: Layout, sequence: bool) -> None:
    config = tiny(
        f"parallel.tensor={layout.tensor}",
        f"parallel.pipeline={layout.pipeline}",
        f"parallel.interleave={layout.interleave}",
        f"parallel.context={layout.context}",
        f"parallel.sequence={sequence and layout.tensor > 1}",
        "model.num_layers=4",
    )
    exchanges = step_exchanges(config, layout, 4)
    sizes = {"tensor": layout.tensor, "context": layout.context, "copies": layout.copies}
    found = {kind: flows(exchanges, kind, np.zeros(layout.world_size, dtype=np.int64)) for kind in KINDS}
    for rank in range(layout.world_size):
        expected = dict.fromkeys(KINDS, 0.0)
        for transfer in step_transfers(config, layout, 4, layout.coordinates(rank).pipe):
            expected[transfer.group] += transfer.sent(sizes.get(transfer.group, 2))
        sent = {kind: float(flow.bytes[flow.source == rank].sum()) for kind, flow in found.items()}
        assert sent == pytest.approx(expected)


def test_an_interleaved_pipeline_is_a_ring() -> None:
    config = tiny("parallel.pipeline=4", "parallel.interleave=2", "model.num_layers=8", "model.tie_embeddings=false")
    flow = flows(step_exchanges(config, Layout(4, interleave=2), 4), "pipeline", np.arange(4)).between(np.arange(4))
    assert {(int(a), int(b)) for a, b in zip(flow.source, flow.target, strict=True)} == {
        (0, 1), (1, 2), (2, 3), (3, 0), (1, 0), (2, 1), (3, 2), (0, 3)
    }  # fmt: skip


@given(
    st.sampled_from(["ring", "recursive", "hierarchical"]),
    st.integers(1, 3),
    st.integers(2, 9),
    st.sampled_from(["all_reduce", "all_gather", "reduce_scatter"]),
    st.data(),
)
def test_every_algorithm_sends_the_least_there_is(
    algorithm: Algorithm, groups: int, n: int, operation: str, draw: st.DataObject
) -> None:
    """All three are optimal in volume; channels only share it out."""
    node = np.array(draw.draw(st.lists(st.integers(0, 3), min_size=groups * n, max_size=groups * n)))
    members = np.arange(groups * n).reshape(groups, n)
    exchange = Exchange("copies", operation, members, 3, 10.0)  # type: ignore[arg-type]
    flow = flows([exchange], "copies", node, algorithm)
    assert flow.bytes.sum() == pytest.approx(groups * n * 30 * share_sent(exchange.operation, n))
    assert (flow.source // n == flow.target // n).all(), "groups keep to themselves"
    assert (flow.bytes > 0).all()


def test_channels_use_all_members_of_a_node() -> None:
    node = np.array([0, 0, 1, 1])
    flow = flows(all_reduce([[0, 1, 2, 3]]), "copies", node).between(np.arange(4))
    across = {(int(a), int(b)): float(x) for a, b, x in zip(flow.source, flow.target, flow.bytes, strict=True)}
    each = 24 * 2 * 3 / 4
    assert across == pytest.approx(
        {(0, 1): each / 2, (1, 0): each / 2, (2, 3): each / 2, (3, 2): each / 2}
        | {(0, 2): each / 2, (1, 3): each / 2, (2, 0): each / 2, (3, 1): each / 2}
    )
    assert all(flow.bytes[flow.source == rank].sum() == pytest.approx(each) for rank in range(4))


def test_a_hierarchical_collective_crosses_with_a_part_each() -> None:
    part = np.array([0, 0, 1, 1])
    flow = flows(all_reduce([[0, 1, 2, 3]]), "copies", np.arange(4), "hierarchical", part)
    crossing = part[flow.source] != part[flow.target]
    assert flow.bytes[crossing].sum() == pytest.approx(4 * 24 * (2 * 1 / 2) / 2), "ring: 2 × 24 × 2 × 3/4 = 72"
    assert flow.rounds == 2 * 2 * (1 + 1)


def test_what_does_not_fit_an_algorithm_is_a_ring() -> None:
    uneven = np.array([0, 0, 1])
    for algorithm in ("recursive", "hierarchical"):
        flow = flows(all_reduce([[0, 1, 2]]), "copies", np.arange(3), algorithm, uneven)
        assert flow.source.tolist() == [0, 1, 2]
        assert flow.target.tolist() == [1, 2, 0]


def test_recursive_halving_talks_least_with_the_farthest() -> None:
    flow = flows(all_reduce([[*range(8)]], 8.0), "copies", np.arange(8), "recursive")
    distance = np.abs(flow.source - flow.target)
    assert [float(flow.bytes[distance == d].sum()) for d in (1, 2, 4)] == [8 * 16, 8 * 8, 8 * 4]
    assert flow.rounds == 2 * 2 * 3
