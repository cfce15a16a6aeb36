"""Trees in SLURM's words, read back."""

import pytest
from hypothesis import given

from launch.topology.build import build_fabric
from launch.topology.model import Topology
from launch.topology.slurm import parse_slurm
from launch.topology.slurm_yaml import parse_slurm_yaml
from launch.topology.write import switches_of, topology_conf, topology_yaml
from megatron_nlg.config.errors import InputError
from tests.launch.topology.test_build import CLUSTER, topologies


@given(topologies())
def test_what_is_written_is_read_as_the_same_tree(topology: Topology) -> None:
    fabric = build_fabric(CLUSTER, topology)
    switches = switches_of(fabric)
    for again in (parse_slurm(topology_conf(switches), "t"), parse_slurm_yaml(topology_yaml(switches), "t")):
        back = build_fabric(CLUSTER, again)
        assert (back.members, back.above) == (fabric.members, fabric.above)


@given(topologies())
def test_a_topology_itself_keeps_who_is_near_whom(topology: Topology) -> None:
    """Nodes beside switches get one of their own, as SLURM demands."""
    text = topology_conf(topology.switches)
    assert not any("Nodes=" in line and "Switches=" in line for line in text.splitlines())
    before, after = build_fabric(CLUSTER, topology), build_fabric(CLUSTER, parse_slurm(text, "t"), None)
    after = after.only(before.nodes)
    assert after.above == before.above


def test_a_name_that_slurm_could_not_read_is_refused() -> None:
    with pytest.raises(InputError, match="'rack 1'"):
        topology_conf({"rack 1": ("n1",)})


def test_it_is_what_slurm_reads() -> None:
    assert topology_conf(switches_of(build_fabric(CLUSTER))) == (
        "SwitchName=leaf1 Nodes=node[1-2]\nSwitchName=leaf2 Nodes=node[3-4]\n"
        "SwitchName=spine1 Switches=leaf[1-2]\nSwitchName=top Switches=spine1\n"
    )
