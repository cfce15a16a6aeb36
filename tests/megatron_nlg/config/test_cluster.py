"""Cluster descriptions: what they must satisfy."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from megatron_nlg.config.base import build, parse_yaml
from megatron_nlg.config.cluster import Cluster, cluster_problems, load_cluster
from megatron_nlg.config.errors import ConfigError, InputError

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


def test_the_example_of_the_guide_loads(tmp_path: Path) -> None:
    guide = Path("docs/launch.md").read_text()
    (tmp_path / "clusters").mkdir()
    (tmp_path / "fabrics").symlink_to(Path("configs/fabrics").resolve())
    example = tmp_path / "clusters" / "ours.yaml"
    example.write_text("include: [../fabrics" + guide.partition("```yaml\ninclude: [../fabrics")[2].partition("```")[0])
    cluster = load_cluster(example)
    assert cluster.name == "ours"
    assert cluster.environment


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


@given(st.integers(0, len(GOOD)), st.integers(0, 8), st.text(st.sampled_from("{}[]:,-'\"\n #&*!|0ab"), max_size=4))
@example(GOOD.index("{name"), 0, ":")
@settings(max_examples=200)
def test_a_broken_description_is_read_or_refused(at: int, length: int, instead: str) -> None:
    text = GOOD[:at] + instead + GOOD[at + length :]
    try:
        tree = parse_yaml(text, "c")
        if not isinstance(tree, dict):
            return  # refused where files are read
        cluster = build(Cluster, tree, "c")
        problems = list(cluster_problems(cluster))
    except InputError as error:
        assert "c" in str(error)
        return
    assert all(problem.key and problem.message for problem in problems)
