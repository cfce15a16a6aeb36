"""InfiniBand fabrics as ibnetdiscover prints them."""

import pytest

from launch.topology.ibnetdiscover import parse_ibnetdiscover
from megatron_nlg.config.errors import InputError
from tests.launch.topology.samples import ibnetdiscover


def test_leaf_switches_of_the_same_hosts_are_one_unit_with_all_their_cables() -> None:
    topology = parse_ibnetdiscover(ibnetdiscover(units=2, hosts=4, rails=2), "t")
    assert topology.switches == {
        "leaf-0-0+1": ("n0-0", "n0-1", "n0-2", "n0-3"),
        "leaf-1-0+1": ("n1-0", "n1-1", "n1-2", "n1-3"),
        "spine-0+1": ("leaf-0-0+1", "leaf-1-0+1"),
    }
    assert topology.rails == 2
    assert topology.uplinks["n0-0"] == 100, "2 × 400 Gb/s"
    assert topology.uplinks["leaf-0-0+1"] == 400, "2 leaf switches × 2 spines × 2 cables × 50 GB/s"
    assert topology.notes[0].startswith("6 switches, 4 of them leaf switches; ")


@pytest.mark.parametrize(
    ("speed", "gbs"), [("4xEDR", 12.5), ("4xHDR", 25), ("2xNDR", 25), ("4xNDR", 50), ("4xXDR", 100)]
)
def test_a_cables_speed_is_lanes_times_their_rate(speed: str, gbs: float) -> None:
    assert parse_ibnetdiscover(ibnetdiscover(rails=1, speed=speed), "t").uplinks["n0-0"] == gbs


def test_one_misplaced_cable_joins_no_units() -> None:
    text = ibnetdiscover(hosts=6).replace('"n1-0 mlx5_1"', '"n0-0 mlx5_7"')
    topology = parse_ibnetdiscover(text, "t")
    assert sorted(topology.switches) == ["leaf-0-0+1", "leaf-1-0+1", "spine-0+1"]
    assert "n0-0" in topology.switches["leaf-0-0+1"]
    assert any("1 hosts have adapters in several units" in note for note in topology.notes)


def test_hosts_without_a_name_of_their_own_are_left_out_and_counted() -> None:
    text = ibnetdiscover().replace("n0-0 mlx5_0", "MT4129 ConnectX7   Mellanox Technologies").replace("n0-1 ", "n0-2 ")
    topology = parse_ibnetdiscover(text, "t")
    assert topology.switches["leaf-0-0+1"] == ("n0-0", "n0-3")
    assert any("5 adapters without a host of their own" in note for note in topology.notes)
    assert any("1 hosts have fewer than 2 adapters with their name: n0-0" in note for note in topology.notes)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("4xNDR", "4xNEW", "t:7: found .*, expected a line that ends with a speed such as 4xNDR"),
        ("vendid=", "venndid=", "t:5: found 'venndid=0x2c9', expected Switch, Ca or Rt"),
        ("Switch\t65", "[1]\t", "t:6: found"),
        ("mlx5_", "port", "t:1: found no host with a name"),
        ("[", "# [", "t:1: found no cable between a host and a switch"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(old: str, new: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        parse_ibnetdiscover(ibnetdiscover().replace(old, new), "t")
