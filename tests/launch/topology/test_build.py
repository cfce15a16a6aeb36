"""Fabrics of cluster descriptions and topologies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.topology.build import build_fabric
from launch.topology.model import Topology
from launch.topology.models import parse_model
from launch.topology.nvidia_smi import parse_nvidia_smi
from launch.topology.slurm import parse_slurm
from megatron_nlg.config.cluster import Cluster, Level
from megatron_nlg.config.errors import ConfigError, InputError
from megatron_nlg.planning.fabric import Fabric
from tests.launch.topology import samples

LEVELS = (
    Level(name="gpu", bandwidth_gbs=300),
    Level(name="node", bandwidth_gbs=100, rails=4),
    Level(name="leaf", bandwidth_gbs=400, rails=4, size=2),
    Level(name="spine", bandwidth_gbs=1600, rails=4, size=2),
)
CLUSTER = Cluster(name="c", nodes=4, gpus_per_node=4, accelerator="A100", levels=LEVELS)


def tree(**switches: str) -> Topology:
    return Topology("test", "t", {name: tuple(below.split()) for name, below in switches.items()})


def hops(fabric: Fabric, one: str, other: str) -> int:
    return fabric.meets(fabric.nodes.index(one), fabric.nodes.index(other))


def test_a_topology_takes_the_levels_that_it_has() -> None:
    fabric = build_fabric(CLUSTER, parse_slurm(samples.SCONTROL, "t"))
    assert fabric.members == (("n1", "n2", "n3"), ("left", "right"))
    assert fabric.above == ((0, 0, 1),)
    assert [level.name for level in fabric.levels] == ["gpu", "node", "leaf"]
    assert fabric.notes == ()


def test_without_one_the_clusters_switches_or_sizes_are_the_tree() -> None:
    switches = {"a": ("n[1-2]",), "b": ("n[3-4]",), "c": ("a", "b")}
    assert build_fabric(CLUSTER.model_copy(update={"switches": switches})).members[1] == ("a", "b")
    assert build_fabric(CLUSTER).members == (("node1", "node2", "node3", "node4"), ("leaf1", "leaf2"), ("spine1",))
    with pytest.raises(ConfigError, match="levels: is required"):
        build_fabric(CLUSTER.model_copy(update={"levels": ()}))


def test_named_nodes_are_the_fabric_in_their_order_and_strangers_are_named() -> None:
    topology = parse_slurm(samples.SCONTROL, "t")
    assert build_fabric(CLUSTER, topology, ["n3", "n1"]).members == (("n3", "n1"), ("right", "left"))
    with pytest.raises(InputError, match="t: nodes that are not in it: n8, n9; it has 3, such as n1, n2, n3"):
        build_fabric(CLUSTER, topology, ["n1", "n8", "n9"])
    with pytest.raises(InputError, match=r"c: nodes that are not in it: n1; .* give --topology"):
        build_fabric(CLUSTER, None, ["n1"])
    with pytest.raises(InputError, match="nodes given twice: n1"):
        build_fabric(CLUSTER, topology, ["n1", "n1"])


def test_different_depths_are_bridged_and_limit_nothing() -> None:
    fabric = build_fabric(
        CLUSTER, tree(top="mid leaf3 n5 n6", mid="leaf1 leaf2", leaf1="n1", leaf2="n2", leaf3="n3 n4")
    )
    assert [len(names) for names in fabric.members] == [6, 4, 3]
    assert hops(fabric, "n5", "n6") == hops(fabric, "n3", "n4") == 1
    assert hops(fabric, "n1", "n2") == 2
    assert hops(fabric, "n1", "n3") == hops(fabric, "n3", "n5") == 3
    stars = [i for i, name in enumerate(fabric.members[1]) if name.startswith("top*")]
    assert fabric.bandwidth(2)[stars].tolist() == [200e9 / 4], "the two nodes' links together"
    assert "top*" in fabric.notes[0]
    assert "leaf3*" in fabric.notes[0]


def test_a_deeper_tree_repeats_the_topmost_link_and_says_so() -> None:
    shallow = CLUSTER.model_copy(update={"levels": LEVELS[:3]})
    topology = tree(top="a b", a="c d", b="e", c="n1", d="n2", e="n3")
    fabric = build_fabric(shallow, topology)
    assert [level.name for level in fabric.levels] == ["gpu", "node", "leaf", "leaf2"]
    assert "leaf's is repeated" in fabric.notes[0]
    with pytest.raises(ConfigError, match="levels: end at the node, and switches such as"):
        build_fabric(CLUSTER.model_copy(update={"levels": LEVELS[:2]}), topology)


def test_parts_that_nothing_joins_are_joined_and_lone_tops_dropped() -> None:
    fabric = build_fabric(CLUSTER, tree(a="n1 n2", b="n3"))
    assert fabric.members[1] == ("a", "b")
    assert "2 parts that nothing joins" in fabric.notes[0]
    assert build_fabric(CLUSTER, tree(core="spine", spine="leaf", leaf="n1 n2")).members == (("n1", "n2"),)


RACKS = CLUSTER.model_copy(update={"nvlink_domain": "leaf"})


def test_nvlink_domains_stand_between_nodes_and_leaves() -> None:
    text = samples.PLAIN.replace("n[1-2]", "n[1-2,4]") + "domains: {d1: 'n[1-2]', d2: n4, right: n3}\n"
    fabric = build_fabric(RACKS, parse_model(text, "t"))
    assert fabric.members == (("n1", "n2", "n4", "n3"), ("d1", "d2", "right'"), ("left", "right"))
    assert fabric.uplinks[2] == (40, 20)
    without = build_fabric(CLUSTER, parse_model(text, "t"))
    assert without.members[1] == ("left", "right")
    assert any("NVLink domains are left out" in note for note in without.notes)


def test_adapters_of_nodes_are_their_nvlink_domains_link_up() -> None:
    text = samples.PLAIN.replace("{left: 40,", "{n1: 7, n2: 8, n3: 9, left: 40,") + "domains: {d: 'n[1-2]', e: n3}\n"
    assert build_fabric(RACKS, parse_model(text, "t")).uplinks == (None, (15, 9), (40, 20))
    assert build_fabric(CLUSTER, parse_model(text, "t")).uplinks == ((7, 8, 9), (40, 20))
    levels = build_fabric(RACKS, parse_nvidia_smi(samples.SMI, "smi")).levels
    assert [level.rails for level in levels] == [1, 4, 2, 4], "adapters begin above the domain"


def test_blocks_are_domains_or_leaves() -> None:
    blocks = parse_slurm(samples.CONF_BLOCKS, "t")
    assert build_fabric(RACKS, blocks).members[1] == build_fabric(CLUSTER, blocks).members[1] == ("b1", "b2")


def test_a_domain_on_two_switches_ends_at_each() -> None:
    fabric = build_fabric(RACKS, parse_model(samples.PLAIN + "domains: {d: 'n[1-3]'}\n", "t"))
    assert fabric.members[1:] == (("d@left", "d@right"), ("left", "right"))
    assert "NVLink domains on several switches: d; each is taken as one a switch" in fabric.notes


def test_the_inside_of_a_node_corrects_its_links() -> None:
    fabric = build_fabric(CLUSTER, parse_nvidia_smi(samples.SMI.replace("NV4", "NV2"), "smi"))
    assert [level.rails for level in fabric.levels] == [1, 2, 4, 4]
    assert fabric.levels[0].bandwidth_gbs == 150, "6 links of NVLink 3"
    assert "gpu: bandwidth_gbs 150 as in smi, not 300 as described" in fabric.notes
    with pytest.raises(InputError, match="node of 4 GPUs, and c has nodes of 8"):
        build_fabric(CLUSTER.model_copy(update={"gpus_per_node": 8}), parse_nvidia_smi(samples.SMI, "smi"))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Trees and forests of any shape, nodes at any depth."""
    count = draw(st.integers(1, 8))
    below: dict[str, list[str]] = {f"s{i}": [] for i in range(count)}
    for i in range(1, count):
        if draw(st.booleans()):
            below[f"s{draw(st.integers(0, i - 1))}"].append(f"s{i}")
    for name, under in below.items():
        size = draw(st.integers(0 if under else 1, 3))
        under += [f"n{name}-{j}" for j in range(size)]
    return Topology("test", "t", {name: tuple(under) for name, under in below.items()})


@given(topologies())
def test_any_tree_becomes_one_of_equal_depth_with_the_same_nearness(topology: Topology) -> None:
    fabric = build_fabric(CLUSTER, topology)
    assert sorted(fabric.nodes) == sorted(topology.nodes)
    parent = {each: name for name, under in topology.switches.items() for each in under}
    for i, one in enumerate(fabric.nodes):
        for j, other in enumerate(fabric.nodes[:i]):
            together = parent[one] == parent[other]
            assert (fabric.meets(i, j) == 1) == together, "only nodes of one switch meet there"
