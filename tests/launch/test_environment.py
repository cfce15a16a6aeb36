"""Environments of fabrics: data that a cluster includes and changes."""

from pathlib import Path

import pytest

from launch.environment import environment
from megatron_nlg.config.cluster import load_cluster

FABRICS = sorted(Path("configs/fabrics").glob("*.yaml"))


@pytest.mark.parametrize("path", FABRICS, ids=lambda path: path.stem)
def test_every_fabric_completes_a_cluster(path: Path, tmp_path: Path) -> None:
    cluster = tmp_path / "c.yaml"
    cluster.write_text(f"include: ['{path.resolve()}']\nname: c\nnodes: 2\ngpus_per_node: 8\n")
    variables = environment(load_cluster(cluster))
    assert variables
    assert all(name and value and reason for name, value, reason in variables)


def test_a_cluster_changes_adds_and_drops_variables(tmp_path: Path) -> None:
    fabric = tmp_path / "f.yaml"
    fabric.write_text("environment: {A: {value: 1, reason: one}, B: {value: x, reason: why}}")
    cluster = tmp_path / "c.yaml"
    changed = "environment: {A: {value: null}, B: {value: y}, C: {value: 2.5, reason: more}}"
    cluster.write_text(f"include: [f.yaml]\nname: c\nnodes: 2\ngpus_per_node: 8\n{changed}\n")
    assert environment(load_cluster(cluster)) == [("B", "y", "why"), ("C", "2.5", "more")]
