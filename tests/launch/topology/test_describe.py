"""Fabrics in words."""

from pathlib import Path

from launch.topology.build import build_fabric
from launch.topology.describe import describe
from launch.topology.ibnetdiscover import parse_ibnetdiscover
from launch.topology.model import Topology
from launch.topology.models import parse_model
from megatron_nlg.config.cluster import load_cluster
from tests.launch.topology.samples import PLAIN, ibnetdiscover
from tests.launch.topology.test_build import CLUSTER


def test_levels_counts_and_oversubscription() -> None:
    text = describe(build_fabric(load_cluster(Path("configs/clusters/ethernet_4to1.yaml"))))
    assert text.splitlines()[0] == "64 nodes of 8, 3 levels of links, top first"
    assert "4:1 below" in text.splitlines()[1]
    assert "16 × node on each" in text.splitlines()[2]


def test_uneven_leaves_are_named_with_the_range_of_their_links() -> None:
    text = describe(build_fabric(CLUSTER, parse_model(PLAIN, "t")))
    assert "20 to 40 GB/s each way" in text
    assert "uneven: 2 × node on 1 of them, 1 on right" in text


def test_of_many_uneven_leaves_the_range_is_told() -> None:
    switches = {f"leaf{i}": tuple(f"n{i}-{j}" for j in range(1 + i)) for i in range(7)} | {
        "spine": tuple(f"leaf{i}" for i in range(7))
    }
    text = describe(build_fabric(CLUSTER, Topology("test", "t", switches)))
    assert "uneven: 1 to 7 × node on each, most often" in text


def test_what_was_assumed_is_said() -> None:
    text = describe(build_fabric(CLUSTER, parse_ibnetdiscover(ibnetdiscover(), "t")))
    assert "note: node: rails 2 as in t, not 4 as described" in text
