"""The search for the best placement: constructions, then exchanges of nodes; small ones proven by branch and bound.

Everything is deterministic: the same fabric and run give the same placement. Between placements of equal time the one
with fewer bytes on high levels is taken, then the one found first, in the order of the names.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from launch.placement.arrangement import arrangements, complete
from launch.placement.construct import seatings
from launch.placement.exact import prove
from launch.placement.problem import Cost, Problem
from launch.placement.state import State
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.traffic import Exchange, Numbers

PROVE_UP_TO = 16
"""Virtual nodes for which the optimum is sought by branch and bound."""
SAME = 1e-4
"""Times that differ by less than this part count as equal, and bytes on high levels decide."""
EFFORT = 100_000
"""Exchanges that are tried, and steps of each proof."""
LARGE = 100_000_000
"""Effort times nodes, at most: a single exchange takes longer on a large cluster, and gains less."""
HEATS, GUIDE = (0.1, 0.4, 1.5, 6.0), 0.05
"""Of annealing: the first temperature of each round in parts of the time, the weight of the average link."""
FEW = 6
"""Seatings of an irregular arrangement that are tried before the best are improved."""
IMPROVED = 3
"""Arrangements that the local search works on, the best after construction."""


@dataclass(frozen=True, eq=False)
class Found:
    """A placement: what each node holds, and where it is."""

    problem: Problem
    seating: Numbers
    cost: Cost
    proven: bool = False
    """Whether no placement with tensor groups inside nodes is faster."""

    @property
    def node(self) -> Numbers:
        """[ranks]: number of each rank's node in the fabric."""
        return self.seating[self.problem.arrangement.node]


def default_placement(fabric: Fabric, exchanges: tuple[Exchange, ...], layout: Layout, per_node: int) -> Found:
    """Ranks in blocks on the first nodes of `fabric`, which are in SLURM's order: by name."""
    problem = Problem(fabric, arrangements(layout, per_node)[0], exchanges)
    seating = np.arange(problem.size)
    return Found(problem, seating, problem.cost(seating))


def preferred(found: Sequence[Found]) -> Found:
    """The first of the fastest that sends fewest bytes over the links of leaves, spines and above.

    As fast is what takes no more than SAME longer, and no longer than the first of `found`, the default.
    """
    limit = min(min(one.cost.seconds for one in found) * (1 + SAME), found[0].cost.seconds)
    return min((one for one in found if one.cost.seconds <= limit), key=lambda one: round(one.cost.bytes))


def best_placement(
    fabric: Fabric, exchanges: tuple[Exchange, ...], layout: Layout, per_node: int, effort: int = EFFORT
) -> Found:
    """The fastest placement that is found, never slower than the default; of constructions alone without `effort`."""
    default = default_placement(fabric, exchanges, layout, per_node)
    leaders = []
    for arrangement in arrangements(layout, per_node):
        leaders.append(constructed(Problem(fabric, arrangement, exchanges), layout))
    best = preferred([default, *leaders])
    if not best.problem.levels:
        return replace(best, proven=complete(layout, per_node))
    if not effort:
        return best
    leaders.sort(key=lambda one: (one.cost.seconds, one.cost.bytes))
    effort = min(effort, LARGE // best.problem.size)
    small = best.problem.size <= PROVE_UP_TO
    best = preferred([default, best, *_improved(leaders, effort // 20 if small else effort)])
    if not small:
        return best
    proofs = [(one.problem, prove(one.problem, best.cost, effort)) for one in leaders]
    faster = [Found(problem, p.seating, problem.cost(p.seating)) for problem, p in proofs if p.seating is not None]
    best = preferred([default, best, *faster])
    if not all(proof.finished for _, proof in proofs):
        return preferred([default, best, *_improved(leaders, effort)])
    return replace(best, proven=complete(layout, per_node))


def constructed(problem: Problem, layout: Layout) -> Found:
    """The best of the first seatings; of a few, where there are many arrangements."""
    first = islice(seatings(problem, layout), FEW if problem.arrangement.irregular else None)
    candidates = [Found(problem, seating, problem.cost(seating)) for seating in first]
    return preferred([min(candidates, key=lambda one: one.cost.seconds), *candidates])


def _improved(leaders: Sequence[Found], effort: int) -> Iterator[Found]:
    """Simulated annealing of the first few by exchanges of two nodes, several times from the best so far."""
    chosen = leaders[:IMPROVED]
    for start in chosen:
        problem, best = start.problem, start
        for heat in HEATS:
            seating = np.array(_anneal(problem, best.seating, effort // (len(HEATS) * len(chosen)), heat))
            best = preferred([best, Found(problem, seating, problem.cost(seating))])
        yield best


def _anneal(problem: Problem, seating: Numbers, effort: int, heat: float) -> list[int]:
    """The best seating met; of two nodes that change places one goes towards a partner of its traffic."""
    state, chance = State(problem), random.Random(0)
    sitting = dict.fromkeys(range(len(problem.fabric.nodes)), -1)
    for one, node in enumerate(seating.tolist()):
        state.put(one, node)
        sitting[node] = one
    by_member, path = _seats_by_member(problem)
    best = state.seconds(), state.spread()
    energy = best[0] + GUIDE * best[1]
    kept, heat, cooling = state.seat.copy(), heat * energy, 1e-5 ** (1 / max(effort, 1))
    for _ in range(effort):
        heat *= cooling
        one = chance.randrange(problem.size)
        here, there = state.seat[one], _towards(state, one, by_member, path, chance)
        if path[here] == path[there]:
            continue
        _exchange(state, sitting, here, there)
        cost = state.seconds(), state.spread()
        new = cost[0] + GUIDE * cost[1]
        if new <= energy or chance.random() < math.exp((energy - new) / heat):
            energy = new
            if cost < best:
                best, kept = cost, state.seat.copy()
        else:
            _exchange(state, sitting, here, there)
    return kept


def _seats_by_member(problem: Problem) -> tuple[list[list[int]], list[int]]:
    """Nodes under each member of the lowest searched level, and each node's member."""
    path = problem.fabric.paths[problem.levels[0] - 1]
    return [np.flatnonzero(path == member).tolist() for member in range(int(path.max()) + 1)], path.tolist()


def _towards(state: State, one: int, by_member: list[list[int]], path: list[int], chance: random.Random) -> int:
    """A node to move to: mostly beside a partner, sometimes any."""
    partners = state.neighbours[chance.randrange(len(state.neighbours))][one] if state.neighbours else []
    if partners and chance.random() < 0.8:
        return chance.choice(by_member[path[state.seat[chance.choice(partners)[0]]]])
    return chance.randrange(len(path))


def _exchange(state: State, sitting: dict[int, int], here: int, there: int) -> None:
    """Who sits here goes there, and the other way round; one of the two may be empty."""
    one, other = sitting[here], sitting[there]
    for virtual in (one, other):
        if virtual >= 0:
            state.take(virtual)
    for virtual, node in ((one, there), (other, here)):
        if virtual >= 0:
            state.put(virtual, node)
        sitting[node] = virtual
