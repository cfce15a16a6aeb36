"""What interface counters should show."""

from __future__ import annotations

import pytest

from launch.placement.plan import Plan
from launch.placement.predict import predicted_link_bytes
from megatron_nlg.config.cluster import Level
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.parameters import rank_parameters
from tests.tiny import tiny

LEVELS = tuple(Level(name=name, bandwidth_gbs=1) for name in ("gpu", "node", "leaf"))
FABRIC = Fabric(LEVELS, 1, (("a", "b", "c", "d"), ("left", "right")), ((0, 0, 1, 1),))


def test_a_ring_of_gradients() -> None:
    """One rank a node, four replicas: 4 bytes a gradient all-reduced, 4 bytes a weight gathered."""
    config = tiny()
    size = rank_parameters(config, 0)
    each = size * (4 * 2 * 3 / 4 + 4 * 3 / 4)
    found = predicted_link_bytes(Plan(Layout(data=4), ("a", "b", "c", "d")), FABRIC, config, 2)
    assert found == {("node", name): (pytest.approx(each), pytest.approx(each)) for name in "abcd"} | {
        ("leaf", name): (pytest.approx(each), pytest.approx(each)) for name in ("left", "right")
    }
    alternating = predicted_link_bytes(Plan(Layout(data=4), ("a", "c", "b", "d")), FABRIC, config, 2)
    assert alternating["leaf", "left"] == (pytest.approx(2 * each), pytest.approx(2 * each))


def test_messages_of_a_pipeline_go_both_ways() -> None:
    config = tiny("parallel.pipeline=2", "model.tie_embeddings=false")
    found = predicted_link_bytes(Plan(Layout(2), ("a", "c")), FABRIC, config, 8, ("pipeline",))
    message = 2 * 32 * 64 * 4
    assert found["leaf", "left"] == found["node", "c"] == (8 * message, 8 * message)
    assert found["node", "b"] == (0, 0)
