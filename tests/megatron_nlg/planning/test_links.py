"""Loads of links against a count message by message (tests/launch/placement/slow.py), and what must not change them."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.placement_gap import Case, cases
from megatron_nlg.planning.links import DOWN, UP, Places, step_loads
from tests.launch.placement import slow

CASES = list(cases(40, 3000, seed=5))


def shuffled(case: Case, seed: int) -> np.ndarray:
    """Any placement of ranks, tensor groups not kept whole."""
    slots = [node for node in range(len(case.fabric.nodes)) for _ in range(case.per_node)]
    random.Random(seed).shuffle(slots)
    return np.array(slots[: case.layout.world_size])


@pytest.mark.parametrize("number", range(len(CASES)))
def test_loads_and_seconds_equal_a_count_message_by_message(number: int) -> None:
    case = CASES[number]
    node = shuffled(case, number)
    loads = step_loads(case.fabric, case.exchanges, Places.on(node))
    expected = slow.loads(case.fabric, case.exchanges, node.tolist())
    assert loads.kinds.keys() == expected.keys()
    for kind, links in expected.items():
        for level, found in enumerate(loads.kinds[kind].bytes):
            table = np.zeros_like(found)
            for (at, member, rail, way), amount in links.items():
                if at == level:
                    table[member, rail, UP if way == "up" else DOWN] += amount
            np.testing.assert_allclose(found, table)
    assert loads.seconds == pytest.approx(slow.seconds(case.fabric, case.exchanges, node.tolist()))


@pytest.mark.parametrize("case", CASES[:10], ids=range(10))
def test_what_goes_up_comes_down(case: Case) -> None:
    loads = step_loads(case.fabric, case.exchanges, Places.on(shuffled(case, 1)))
    for own in loads.kinds.values():
        for level in own.bytes:
            assert level[:, :, UP].sum() == pytest.approx(level[:, :, DOWN].sum())
    assert loads.level_bytes(0) >= loads.level_bytes(1) >= loads.level_bytes(2)


@pytest.mark.parametrize("case", CASES[:10], ids=range(10))
def test_nodes_of_a_leaf_are_alike(case: Case) -> None:
    node = shuffled(case, 2)
    leaf = case.fabric.paths[1]
    other = np.arange(len(leaf))
    for switch in set(leaf.tolist()):
        other[leaf == switch] = np.roll(other[leaf == switch], 1)
    before, after = (step_loads(case.fabric, case.exchanges, Places.on(at)) for at in (node, other[node]))
    assert after.seconds == pytest.approx(before.seconds)
    np.testing.assert_allclose(after.links(2), before.links(2))


def test_twice_the_bandwidth_halves_the_seconds() -> None:
    case = CASES[0]
    fast = replace(
        case.fabric,
        levels=tuple(
            level.model_copy(update={"bandwidth_gbs": 2 * level.bandwidth_gbs, "latency_us": 0.0})
            for level in case.fabric.levels
        ),
        uplinks=(),
    )
    slow_ = replace(
        fast, levels=tuple(x.model_copy(update={"bandwidth_gbs": x.bandwidth_gbs / 2}) for x in fast.levels)
    )
    places = Places.on(shuffled(case, 3))
    assert step_loads(slow_, case.exchanges, places).seconds == pytest.approx(
        2 * step_loads(fast, case.exchanges, places).seconds
    )


def test_gpus_are_numbered_in_the_order_of_ranks() -> None:
    assert Places.on(np.array([1, 0, 1, 0, 1])).gpu.tolist() == [0, 0, 1, 1, 2]
