"""The tree of links: who shares which."""

from pathlib import Path

import pytest

from megatron_nlg.config.cluster import Cluster, Level, load_cluster
from megatron_nlg.planning.fabric import Fabric, regular_fabric

LEVELS = (
    Level(name="gpu", bandwidth_gbs=300, latency_us=3),
    Level(name="node", bandwidth_gbs=200, latency_us=5, rails=8, efficiency=0.5),
    Level(name="leaf", bandwidth_gbs=400, size=2, rails=4),
)


def uneven() -> Fabric:
    return Fabric(LEVELS, 8, (("a", "b", "c"), ("left", "right")), ((0, 1, 0),), (None, (100.0, 300.0)))


def test_selene_is_a_tree_of_four_levels() -> None:
    fabric = regular_fabric(load_cluster(Path("configs/clusters/selene.yaml")))
    assert [len(members) for members in fabric.members] == [560, 28, 7]
    assert [fabric.meets(0, other) for other in (0, 1, 19, 20, 79, 80)] == [0, 1, 1, 2, 2, 3]
    assert fabric.bandwidth(1)[0] == 25e9, "a rail of a node's eight"


def test_the_last_switch_of_a_regular_tree_may_have_fewer_nodes() -> None:
    cluster = Cluster(name="c", nodes=5, gpus_per_node=8, levels=LEVELS)
    assert regular_fabric(cluster).above == ((0, 0, 1, 1, 2),)
    assert regular_fabric(cluster, 3).members == (("node1", "node2", "node3"), ("leaf1", "leaf2"))


def test_links_have_their_own_bandwidth_rails_and_latency() -> None:
    fabric = uneven()
    assert fabric.bandwidth(1).tolist() == [200e9 * 0.5 / 8] * 3
    assert fabric.bandwidth(2).tolist() == [25e9, 75e9]
    assert [fabric.rail(2, gpu) for gpu in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert fabric.latency(1) == pytest.approx(5e-6)


def test_a_part_keeps_the_order_asked_for_and_drops_empty_switches() -> None:
    part = uneven().only(["c", "a"])
    assert part.members == (("c", "a"), ("left",))
    assert part.above == ((0, 0),)
    assert part.uplinks == (None, (100.0,))
    with pytest.raises(KeyError):
        uneven().only(["d"])
