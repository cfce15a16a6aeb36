"""SLURM's topologies, as it prints and reads them."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.topology.build import build_fabric
from launch.topology.read import read_topology
from launch.topology.slurm import parse_addresses, parse_slurm
from launch.topology.slurm_yaml import parse_slurm_yaml
from launch.topology.write import switches_of, topology_conf
from megatron_nlg.config.cluster import Cluster, Level
from megatron_nlg.config.errors import InputError
from megatron_nlg.config.switches import tree_problems
from megatron_nlg.planning.fabric import Fabric
from tests.launch.minislurm import MiniSlurm, missing
from tests.launch.topology import samples

TREE = {"left": ("n1", "n2"), "right": ("n3",), "spine": ("left", "right")}


@pytest.mark.parametrize(
    "text",
    [
        samples.SCONTROL,
        samples.SCONTROL.replace(" ", "\n   "),
        samples.SCONTROL.replace("\n", " "),
        samples.CONF,
        samples.CONF.replace("switchname=right", "switchname = right").replace("=n3", '="n3"'),
    ],
    ids=["lines", "wrapped", "one line", "conf", "blanks and quotes"],
)
def test_a_tree_is_read_however_it_is_printed(text: str) -> None:
    assert parse_slurm(text, "t").switches == TREE


def test_yaml_is_that_of_the_default_topology() -> None:
    topology = parse_slurm_yaml(samples.YAML, "t")
    assert topology.switches == TREE
    assert topology.notes == ("topology main is read, not other",)


@pytest.mark.parametrize("text", [samples.CONF_BLOCKS, samples.SCONTROL_BLOCKS])
def test_blocks_are_domains_without_switches(text: str) -> None:
    topology = parse_slurm(text, "t")
    assert topology.switches == {}
    assert topology.domains == {"n1": "b1", "n2": "b1", "n3": "b2", "n4": "b2"}
    assert parse_slurm_yaml(samples.YAML_BLOCKS, "t").domains == topology.domains


def test_addresses_of_an_allocation_are_a_tree_or_blocks() -> None:
    assert parse_addresses(samples.ADDRESSES, "t").switches == TREE
    blocks = parse_addresses("n1 b0.n1 block.node\nn.2 b1.n.2 block.node\n", "t")
    assert blocks.domains == {"n1": "b0", "n.2": "b1"}
    assert parse_addresses("n1 n1 node\nn2 n2 node\n", "t").switches == {"all": ("n1", "n2")}


def test_nodes_stay_with_the_lowest_switch_and_parallel_spines_are_one() -> None:
    text = samples.SCONTROL + "SwitchName=spine2 Level=1 LinkSpeed=4 Switches=left,right"
    topology = parse_slurm(text, "t")
    assert topology.switches == TREE
    assert any("LinkSpeed" in note for note in topology.notes)
    assert any("spine2 has switches in common with spine" in note for note in topology.notes)


def test_spines_that_share_some_switches_are_one_and_so_are_the_cores_above_them() -> None:
    leaves = "".join(f"SwitchName=l{i} Nodes=n{i}\n" for i in range(3))
    spines = "SwitchName=s0 Switches=l[0-1]\nSwitchName=s1 Switches=l[1-2]\n"
    cores = "SwitchName=c0 Switches=s0,l0\nSwitchName=c1 Switches=s1\n"
    topology = parse_slurm(leaves + spines + cores, "t")
    assert topology.switches == {
        "l0": ("n0",),
        "l1": ("n1",),
        "l2": ("n2",),
        "s0": ("l0", "l1", "l2"),
        "c0": ("s0",),
    }
    assert len(topology.notes) == 2


def test_parallel_ways_up_in_an_address_are_one_switch() -> None:
    text = "n1 opa[06,14-15,07].leaf.n1 switch.switch.node\nn2 opa[06-07,14-15].leaf.n2 switch.switch.node\n"
    assert parse_addresses(text, "t").switches == {"opa06+3": ("leaf",), "leaf": ("n1", "n2")}


def test_switches_and_blocks_that_are_empty_now_are_left_out_with_a_note() -> None:
    text = samples.SCONTROL.replace("=left,right", "=left,right,new").replace("Nodes=n3", "Nodes=(null)")
    topology = parse_slurm(text + "SwitchName=new Level=0 LinkSpeed=1\n", "t")
    assert topology.notes == ("nothing hangs on right, new: left out",)
    assert topology.switches == {"left": ("n1", "n2"), "spine": ("left", "n3")}
    blocks = parse_slurm(samples.CONF_BLOCKS.replace("n[3-4]", ""), "t")
    assert blocks.notes == ("nothing hangs on b2: left out",)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("SwitchName=a Nodes=n1\nSwitchName=b Nodes=n1", "t:1", "n1: this node hangs on a and on b"),
        ("SwitchName=a Nodes=n1\nSwitchName=b Switches=a,c", "t:2", "switch c, which hangs on b, is not described"),
        ("SwitchName=a Nodes=n1\nSwitchName=a Nodes=n2", "t:2", "described twice"),
        ("SwitchName=a\n", "t:1", "found no node"),
        ("SwitchName=a Nodes=n1\nSwitchName=b Switches=c\nSwitchName=c Switches=b", "t:2", "hangs on itself"),
        ("Nodes=n1\n", "t:1", "expected SwitchName"),
        ("SwitchName=a Nodes=n[1-\n", "t:1", "closing ]"),
        ("\n\nSwitchName=a nodes\n", "t:3", "found 'nodes', expected KEY=VALUE"),
        ("SwitchName=a Nodes=n1\nBlockName=b Nodes=n2", "t:2", "switches only, or blocks only"),
        ("BlockName=b Nodes=n1\nBlockName=b Nodes=n2", "t:2", "a second block b"),
        ("SwitchName=a Nodes=n1 \\", "t:1", "a line after the backslash"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_slurm(text, "t")
    assert where in str(caught.value)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["n1 spine.n1", "n1 spine.n2 switch.node", "n1 spine.n1 rack.node", "n1 n1 switch.node", "n1 a.n1 node.switch"],
)
def test_an_address_that_does_not_fit_its_pattern_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="t:2: found"):
        parse_addresses(f"n0 spine.n0 switch.node\n{line}\n", "t")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("tree:", "ring:", "expected topology and one of tree, block, flat"),
        ("switch: left", "name: left", "expected switch, and nodes or children"),
        ("nodes: n3", "nodes: {a: 1}", "found a mapping"),
        ("nodes: n3", "nodes: 'n[3'", "closing ]"),
        ("switches:", "switches: 3\n    more:", "found a single value, expected a list of switches"),
        ("flat: true", "flat: *x", "aliases are not read here"),
        ("flat: true", "flat: [", "not YAML"),
    ],
)
def test_a_wrong_yaml_is_refused_with_its_line(old: str, new: str, what: str) -> None:
    with pytest.raises(InputError, match=r"t:\d+: ") as caught:
        parse_slurm_yaml(samples.YAML.replace(old, new), "t")
    assert what in str(caught.value)


SUBSETS = st.lists(st.sampled_from([f"s{i}" for i in range(6)]), unique=True, max_size=3)
NODES = st.lists(st.sampled_from([f"n{i}" for i in range(8)]), unique=True, max_size=3)


@given(st.lists(st.tuples(SUBSETS, NODES), min_size=6, max_size=6))
def test_any_web_of_switches_is_a_tree_or_refused(web: list[tuple[list[str], list[str]]]) -> None:
    lines = [
        f"SwitchName=s{i} Switches={','.join(below)} Nodes={','.join(nodes)}" for i, (below, nodes) in enumerate(web)
    ]
    try:
        topology = parse_slurm("\n".join(lines), "t")
    except InputError as error:
        assert "t:" in str(error)
        return
    assert list(tree_problems(topology.switches)) == []
    assert set(topology.nodes) == {node for _, nodes in web for node in nodes}


LEVELS = tuple(Level(name=name, bandwidth_gbs=1) for name in ("gpu", "node", "leaf", "spine"))
UNEVEN = {"a": ("node[1,3]",), "b": ("node2",), "over_a": ("a",), "over_b": ("b",), "all": ("over_a", "over_b")}


class Switched(MiniSlurm):
    """A SLURM whose topology.conf we wrote."""

    fabric: Fabric

    def _write_config(self, ports: list[int]) -> None:
        super()._write_config(ports)
        config = self.root / "slurm.conf"
        if "TopologyPlugin" not in config.read_text():
            config.write_text(f"{config.read_text()}\nTopologyPlugin=topology/tree\n")
        (self.root / "topology.conf").write_text(topology_conf(switches_of(self.fabric)))


@pytest.fixture
def switched() -> Iterator[Switched]:
    if absent := missing():
        pytest.skip(f"SLURM is not installed: {', '.join(absent)}")
    cluster = Switched(nodes=3, gpus=1)
    cluster.fabric = build_fabric(Cluster(name="c", nodes=3, gpus_per_node=1, levels=LEVELS, switches=UNEVEN))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.slurm
def test_slurm_takes_our_topology_and_tells_it_again(switched: Switched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", switched.env["SLURM_CONF"])
    topology = read_topology("scontrol")
    again = build_fabric(Cluster(name="c", nodes=3, gpus_per_node=1, levels=LEVELS), topology)
    assert (again.members, again.above) == (switched.fabric.members, switched.fabric.above)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")  # srun makes the allocation itself
    allocated = read_topology("srun")
    assert {name: set(below) for name, below in allocated.switches.items()} == {
        name: set(below) for name, below in topology.switches.items()
    }
