"""Times of collectives and messages between ranks in their natural order."""

import pytest

from megatron_nlg.config.cluster import Cluster, Level
from megatron_nlg.planning.collectives import Peers, collective_seconds, message_seconds

CLUSTER = Cluster(
    name="c",
    nodes=16,
    gpus_per_node=8,
    levels=(
        Level(name="gpu", bandwidth_gbs=300),
        Level(name="node", bandwidth_gbs=200, rails=8),
        Level(name="leaf", bandwidth_gbs=100, size=4),
    ),
)
SIZE = 1e9


def test_inside_a_node() -> None:
    assert collective_seconds(CLUSTER, "all_reduce", SIZE, Peers(8, 1)) == pytest.approx(2 * 7 / 8 * SIZE / 300e9)
    assert collective_seconds(CLUSTER, "all_gather", SIZE, Peers(1, 1)) == 0


def test_groups_of_one_gpu_a_node_share_its_link() -> None:
    peers = Peers(4, 8)
    assert collective_seconds(CLUSTER, "all_gather", SIZE, peers) == pytest.approx(3 / 4 * SIZE / 25e9)


def test_a_ring_through_whole_nodes_crosses_each_link_once() -> None:
    assert collective_seconds(CLUSTER, "all_gather", SIZE, Peers(32, 1)) == pytest.approx(31 / 32 * SIZE / 200e9)


def test_an_oversubscribed_leaf_is_the_slowest() -> None:
    # All 16 nodes: eight rings cross a leaf's link of 100 GB/s.
    assert collective_seconds(CLUSTER, "all_gather", SIZE, Peers(16, 8)) == pytest.approx(15 / 16 * 8 * SIZE / 100e9)
    # A group's members under four leaves, one in each: 32 rings cross each leaf's link.
    assert collective_seconds(CLUSTER, "all_gather", SIZE, Peers(4, 32)) == pytest.approx(3 / 4 * 32 * SIZE / 100e9)


def test_messages() -> None:
    assert message_seconds(CLUSTER, SIZE, Peers(2, 2)) == pytest.approx(SIZE / 300e9)
    assert message_seconds(CLUSTER, SIZE, Peers(4, 8)) == pytest.approx(SIZE / 25e9)
    assert message_seconds(CLUSTER, SIZE, Peers(4, 32)) == pytest.approx(SIZE * 32 / 100e9)
    assert message_seconds(CLUSTER, SIZE, Peers(1, 8)) == 0


def test_latency_counts_once_a_step_of_the_ring() -> None:
    slow = CLUSTER.model_copy(
        update={"levels": (Level(name="gpu", bandwidth_gbs=300, latency_us=10), *CLUSTER.levels[1:])}
    )
    assert collective_seconds(slow, "all_reduce", 8, Peers(8, 1)) == pytest.approx(14 * 10e-6, rel=1e-3)
