"""The search against brute force, and what must hold however large a cluster is."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.placement_gap import Case, cases, gap, random_fabric
from launch.placement import search
from launch.placement.bound import lower_bound
from launch.placement.construct import seatings
from launch.placement.problem import Problem
from launch.placement.search import best_placement, default_placement
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.links import Places, step_loads
from megatron_nlg.planning.traffic import step_exchanges
from tests.launch.placement.slow import fastest
from tests.tiny import tiny


@pytest.mark.parametrize("number", range(30))
def test_it_finds_the_best_placement_there_is(number: int) -> None:
    case = next(cases(1, 300, seed=100 + number))
    best, looked_at = fastest(case.fabric, case.exchanges, case.layout.tensor, case.per_node, case.layout.world_size)
    proven, unproven = gap(case, True, 8000), gap(case, False, 2000)
    assert best * (1 - 1e-9) <= proven["found"] <= best * (1 + 1e-6), f"of {looked_at}"
    assert proven["proven"]
    assert unproven["found"] <= best * 1.01
    assert proven["found"] <= proven["default"] * (1 + 1e-9)
    assert lower_bound(case.fabric, case.exchanges, case.layout, case.per_node).seconds <= best * (1 + 1e-9)


def middle(seed: int) -> Case:
    """Some dozen nodes: more than can be counted."""
    draw = random.Random(seed)
    layout = Layout(draw.randint(2, 6), draw.randint(2, 6), draw.choice([1, 2, 4]))
    slots = draw.choice([s for s in (1, 2, 4) if layout.pipeline * layout.data % s == 0])
    config = tiny(
        f"parallel.tensor={layout.tensor}",
        f"parallel.pipeline={layout.pipeline}",
        f"model.num_layers={layout.pipeline}",
        f"batch.global={layout.data * 16}",
    )
    nodes = layout.pipeline * layout.data // slots
    fabric = random_fabric(draw, nodes + draw.randint(0, 3), layout.tensor * slots)
    return Case(fabric, layout, tuple(step_exchanges(config, layout, 8)), layout.tensor * slots)


@pytest.mark.parametrize("seed", range(12))
def test_between_the_bound_and_the_default(seed: int) -> None:
    case = middle(seed)
    bound = lower_bound(case.fabric, case.exchanges, case.layout, case.per_node)
    default = default_placement(case.fabric, case.exchanges, case.layout, case.per_node)
    found = best_placement(case.fabric, case.exchanges, case.layout, case.per_node, effort=1000)
    loads = step_loads(case.fabric, case.exchanges, Places.on(found.node))
    assert found.cost.seconds == pytest.approx(loads.seconds), "the search counts as the table does"
    assert bound.seconds * (1 - 1e-9) <= found.cost.seconds <= default.cost.seconds
    for level in range(len(case.fabric.levels)):
        assert bound.level_bytes[level] <= loads.level_bytes(level) * (1 + 1e-9)
    assert len(set(found.seating.tolist())) == found.problem.size, "a node each"
    assert (np.bincount(found.node) <= case.per_node).all()


def test_the_same_question_has_the_same_answer() -> None:
    one, other = (best_placement(*middle(3)[:1], *_rest(middle(3)), effort=2000) for _ in range(2))
    np.testing.assert_array_equal(one.node, other.node)


def _rest(case: Case) -> tuple:  # type: ignore[type-arg]
    return case.exchanges, case.layout, case.per_node


def test_first_seatings_give_each_virtual_node_a_node() -> None:
    case = middle(5)
    problem = Problem(case.fabric, default_placement(case.fabric, *_rest(case)).problem.arrangement, case.exchanges)
    for seating in seatings(problem, case.layout):
        assert len(set(seating.tolist())) == problem.size
        assert 0 <= seating.min() <= seating.max() < len(case.fabric.nodes)


def test_a_rounding_difference_does_not_pay_in_bytes() -> None:
    """As fast within SAME: fewer bytes on switches' links decide, but nothing slower than the first is taken."""
    case = middle(7)
    default = default_placement(case.fabric, *_rest(case))
    cost = default.cost

    def found(seconds: float, bytes_: float) -> search.Found:
        return search.Found(default.problem, default.seating, type(cost)(seconds, bytes_))

    slower, faster = found(1.00005, 1.0), found(1.0, 5.0)
    assert search.preferred([found(2.0, 9.0), faster, slower]) is slower
    assert search.preferred([found(1.00001, 9.0), faster, slower]) is faster
