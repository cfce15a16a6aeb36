"""Fabrics in SLURM's words, read back."""

from hypothesis import given

from launch.topology.build import build_fabric
from launch.topology.model import Topology
from launch.topology.slurm import parse_slurm
from launch.topology.slurm_yaml import parse_slurm_yaml
from launch.topology.write import topology_conf, topology_yaml
from tests.launch.topology.test_build import CLUSTER, topologies


@given(topologies())
def test_what_is_written_is_read_as_the_same_tree(topology: Topology) -> None:
    fabric = build_fabric(CLUSTER, topology)
    for again in (parse_slurm(topology_conf(fabric), "t"), parse_slurm_yaml(topology_yaml(fabric), "t")):
        back = build_fabric(CLUSTER, again)
        assert (back.members, back.above) == (fabric.members, fabric.above)


def test_it_is_what_slurm_reads() -> None:
    fabric = build_fabric(CLUSTER)
    assert topology_conf(fabric) == (
        "# 4 nodes\nSwitchName=leaf1 Nodes=node[1-2]\nSwitchName=leaf2 Nodes=node[3-4]\n"
        "SwitchName=spine1 Switches=leaf[1-2]\nSwitchName=top Switches=spine1\n"
    )
