"""Plain and topograph's descriptions."""

import pytest

from launch.topology.models import parse_model
from megatron_nlg.config.errors import InputError
from tests.launch.topology import samples
from tests.launch.topology.test_slurm import TREE


def test_plain_switches_as_yaml_and_json() -> None:
    topology = parse_model(samples.PLAIN, "t")
    assert topology.switches == TREE
    assert topology.uplinks == {"left": 40, "right": 20}
    topology = parse_model(samples.JSON, "t")
    assert topology.switches == TREE
    assert topology.rails == 2


def test_topographs_models_have_domains_and_leaves_of_blocks() -> None:
    topology = parse_model(samples.TOPOGRAPH, "t")
    assert {name: set(below) for name, below in topology.switches.items()} == {
        name: set(below) for name, below in TREE.items()
    }
    assert topology.domains == {"n1": "nvl1", "n2": "nvl1", "n3": "nvl2"}


def test_topographs_switches_without_nodes_are_left_out_with_a_note() -> None:
    topology = parse_model(samples.TOPOGRAPH.replace("[left, right]", "[left, right, dark]"), "t")
    assert topology.notes == ("nothing hangs on dark: left out",)
    assert "dark" not in topology.switches["spine"]


def test_names_of_digits_stay_as_they_are_written() -> None:
    assert parse_model("switches: {0x10: [0101, '[08-09]']}", "t").switches == {"0x10": ("0101", "08", "09")}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            samples.PLAIN.replace("[left, right]", "[left, rihgt]"),
            "t:4: spine: rihgt hangs beside switches such as left",
        ),
        (samples.PLAIN.replace("left: 40", "lefft: 40"), "t:5: found 'lefft', expected a switch or node"),
        (samples.PLAIN.replace("40", "-40"), "t:5: found '-40', expected the links up of left in GB/s"),
        (samples.PLAIN + "domains: {d: n9}\n", "t:6: found 'n9', expected a node of one switch and one domain"),
        (samples.PLAIN + "rails: 1.5\n", "t:6: found '1.5', expected a whole number"),
        (samples.PLAIN + "speed: 1\n", "t:6: found 'speed', expected one of"),
        (samples.PLAIN.replace("[n3]", "[n3, n1]"), "n1: this node hangs on left and on right"),
        ("switches: {}\n", "t:1: found no node, expected switches with the nodes"),
    ],
)
def test_problems_have_their_line(text: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_model(text, "t")
    assert what in str(caught.value)
