"""Cluster descriptions: what they must satisfy."""

from pathlib import Path

import pytest

from megatron_nlg.config.cluster import load_cluster
from megatron_nlg.config.errors import ConfigError

GOOD = """
name: c
nodes: 4
gpus_per_node: 8
levels:
  - {name: gpu, bandwidth_gbs: 300}
  - {name: node, bandwidth_gbs: 200, rails: 8}
  - {name: leaf, bandwidth_gbs: 400}
switches: {left: ['n[1-2]'], right: ['n[3-4]']}
"""


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_cluster(path)
    return str(caught.value)


def test_a_tree_of_switches_loads(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD)
    assert load_cluster(tmp_path / "c.yaml").switches == {"left": ("n[1-2]",), "right": ("n[3-4]",)}


def test_every_problem_of_the_tree_is_listed(tmp_path: Path) -> None:
    bad = "{left: ['n[1-2]', n1], right: ['n[2-4]'], top: [left, right, middle], round: [round]}"
    found = problems(tmp_path, GOOD.replace("{left: ['n[1-2]'], right: ['n[3-4]']}", bad))
    for part in (
        "switches.n1: this node hangs on left twice",
        "switches.n2: this node hangs on left and on right",
        "switches.round: hangs on itself",
        "switches.top: middle hangs beside switches such as left",
        "nodes: is 4, and 5 nodes hang on switches",
    ):
        assert part in found


def test_levels_are_positive_distinct_and_used(tmp_path: Path) -> None:
    assert "greater than 0" in problems(tmp_path, GOOD.replace("bandwidth_gbs: 400", "bandwidth_gbs: 0"))
    assert "levels.2.rails: 16 rails" in problems(
        tmp_path, GOOD.replace("bandwidth_gbs: 400", "bandwidth_gbs: 400, rails: 16")
    )
    assert "levels.2.name: node is a level already" in problems(tmp_path, GOOD.replace("leaf", "node"))
    assert "levels.1.size" in problems(tmp_path, GOOD.replace("rails: 8", "size: 8"))
    assert "nvlink_domain: rack is not the level that nodes hang on; which is leaf" in problems(
        tmp_path, GOOD + "nvlink_domain: rack"
    )
    assert "a closing ] is expected" in problems(tmp_path, GOOD.replace("n[1-2]", "n[1-2"))


def test_variables_are_names_of_one_line(tmp_path: Path) -> None:
    found = problems(
        tmp_path, GOOD + 'environment: {"A B": {value: 1, reason: x}, C: {value: "a\\nb", reason: "x\\ny"}}'
    )
    assert "environment.A B" in found
    assert "environment.C.value" in found
    assert "environment.C.reason" in found
