"""How far the placements of the search are from the best ones, and how long it takes for large clusters.

    python -m benchmarks.placement_gap [--out FILE] [--quick] [--seed N]

Random small clusters, uneven leaves included, get random runs; all their placements are counted, message by message, by
code that shares nothing with the search (tests/launch/placement/slow.py). The search is run as it is, and without its
branch and bound, as it works on clusters where nothing can be proven.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from benchmarks.machine import describe
from launch.placement import search
from megatron_nlg.config.cluster import Level, load_cluster
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import load_config
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.fabric import Fabric, regular_fabric
from megatron_nlg.planning.traffic import Exchange, step_exchanges
from tests.launch.placement.slow import fastest, seconds
from tests.tiny import tiny

ROOT = Path(__file__).parent.parent
SMALL = search.EFFORT // 4
"""Exchanges tried on small clusters: a quarter of what `plan` does, for the sake of the benchmark's time."""


class Case(NamedTuple):
    fabric: Fabric
    layout: Layout
    exchanges: tuple[Exchange, ...]
    per_node: int


def cases(count: int, placements: int, seed: int = 0) -> Iterator[Case]:
    """Random clusters and runs that have at most so many placements."""
    draw = random.Random(seed)
    while count:
        case = random_case(draw)
        if case is not None and _placements(case) <= placements:
            count -= 1
            yield case


def random_case(draw: random.Random) -> Case | None:
    tensor, slots = draw.choice([1, 2]), draw.choice([1, 1, 2])
    pipeline, data, context = draw.randint(1, 6), draw.randint(1, 6), draw.choice([1, 1, 1, 2])
    cells = pipeline * data * context
    spares = draw.choice([0, 0, 1, 2]) if slots == 1 else 0
    if cells % slots or not 3 <= cells // slots <= 10:
        return None
    config = tiny(
        f"parallel.tensor={tensor}",
        f"parallel.pipeline={pipeline}",
        f"parallel.context={context}",
        f"model.num_layers={pipeline * draw.randint(1, 4)}",
        f"model.hidden_size={draw.choice([16, 64, 256])}",
        "batch.micro=1",
        f"batch.global={data * draw.choice([1, 4, 16, 64])}",
    )
    layout = Layout(pipeline, data, tensor, context=context)
    fabric = random_fabric(draw, cells // slots + spares, tensor * slots)
    exchanges = step_exchanges(config, layout, config.batch.global_ // data)
    return Case(fabric, layout, tuple(exchanges), tensor * slots)


def random_fabric(draw: random.Random, nodes: int, gpus: int) -> Fabric:
    """Shuffled nodes under 2 to 4 leaves of any size, sometimes under spines, some links slower than others."""
    leaves = draw.randint(2, 4)
    under = [*range(leaves), *(draw.randrange(leaves) for _ in range(nodes))][:nodes]
    draw.shuffle(under)
    used = sorted(set(under))
    members = [[f"n{i}" for i in range(nodes)], [f"leaf{i}" for i in used]]
    above = [[used.index(leaf) for leaf in under]]
    levels = [
        Level(name="gpu", bandwidth_gbs=300, latency_us=3),
        Level(name="node", bandwidth_gbs=20, latency_us=5, rails=draw.choice([1, gpus])),
        Level(name="leaf", bandwidth_gbs=draw.choice([5, 20, 40, 80]), latency_us=7, size=4),
    ]
    if draw.random() < 0.3:
        levels.append(Level(name="spine", bandwidth_gbs=draw.choice([10, 40]), latency_us=9, size=2))
        members.append(["spine0", "spine1"][: 1 + (len(used) > 1)])
        above.append([i % len(members[-1]) for i in range(len(used))])
    own = None
    if draw.random() < 0.2:
        own = tuple(draw.choice([10.0, 40.0]) for _ in used)
    uplinks = (None, own, *(None for _ in members[2:]))
    return Fabric(tuple(levels), gpus, tuple(map(tuple, members)), tuple(map(tuple, above)), uplinks)


def _placements(case: Case) -> float:
    """How many the brute force looks at."""
    from math import factorial, prod

    slots = case.per_node // case.layout.tensor
    cells = case.layout.world_size // case.layout.tensor
    if slots == 1 and len(case.fabric.paths) == 2:
        return factorial(len(case.fabric.nodes)) / prod(map(factorial, np.bincount(case.fabric.paths[1]).tolist()))
    return factorial(cells) / factorial(slots) ** (cells // slots) * (len(case.fabric.nodes) * slots - cells + 1)


def gap(case: Case, prove: bool, effort: int = search.EFFORT) -> dict[str, Any]:
    """Seconds a step of the search's placement, of the default and of the best."""
    with mock.patch.object(search, "PROVE_UP_TO", 16 if prove else 0):
        start = time.perf_counter()
        found = search.best_placement(case.fabric, case.exchanges, case.layout, case.per_node, effort)
        spent = time.perf_counter() - start
    default = search.default_placement(case.fabric, case.exchanges, case.layout, case.per_node)
    return {
        "found": seconds(case.fabric, case.exchanges, found.node.tolist()),
        "default": seconds(case.fabric, case.exchanges, default.node.tolist()),
        "proven": found.proven,
        "search_seconds": spent,
    }


def small(count: int, placements: int, seed: int) -> dict[str, Any]:
    rows = []
    for case in cases(count, placements, seed):
        best, looked_at = fastest(
            case.fabric, case.exchanges, case.layout.tensor, case.per_node, case.layout.world_size
        )
        row = {"best": best, "placements": looked_at, "layout": str(case.layout)}
        row["leaves"] = sorted(np.bincount(case.fabric.paths[1]).tolist())
        row |= {"with_proof": gap(case, True, SMALL), "without_proof": gap(case, False, SMALL)}
        rows.append(row)
        if row["without_proof"]["found"] > 1.01 * best:
            print(row)
    summary: dict[str, Any] = {
        "seed": seed,
        "clusters": len(rows),
        "uneven": sum(len({*row["leaves"]}) > 1 for row in rows),
    }
    summary["placements_counted"] = sum(row["placements"] for row in rows)
    summary["default_over_best"] = _spread([row["with_proof"]["default"] / row["best"] for row in rows])
    for way in ("with_proof", "without_proof"):
        gaps = [row[way]["found"] / row["best"] - 1 for row in rows]
        summary[way] = {
            "largest_gap": round(max(gaps), 6),
            "within_1_percent": sum(g <= 0.01 for g in gaps),
            "proven": sum(row[way]["proven"] for row in rows),
            "search_seconds": _spread([row[way]["search_seconds"] for row in rows]),
        }
    return summary


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(float(np.median(values)), 4), "largest": round(max(values), 4)}


def large(nodes: int) -> dict[str, Any]:
    """A 175B run on uneven leaves of about 32 nodes with 4:1 uplinks, their names shuffled."""
    config: RunConfig = load_config(
        ROOT / "configs/runs/gpt3_175b.yaml", [f"batch.global={nodes}", "parallel.tensor=8", "parallel.pipeline=16"]
    )
    layout, draw = Layout.of(config.parallel, nodes * 8), random.Random(0)
    cluster = load_cluster(ROOT / "configs/clusters/selene.yaml")
    leaf = cluster.levels[2].model_copy(update={"bandwidth_gbs": 1600})
    spine = cluster.levels[3].model_copy(update={"bandwidth_gbs": 6400})
    regular = regular_fabric(
        cluster.model_copy(update={"levels": (*cluster.levels[:2], leaf, spine)}), nodes + nodes // 8
    )
    chosen = sorted(draw.sample(range(len(regular.nodes)), nodes))
    draw.shuffle(chosen)
    fabric = regular.only([regular.nodes[node] for node in chosen])
    start, cpu = time.perf_counter(), time.process_time()
    exchanges = tuple(step_exchanges(config, layout, config.batch.global_ // config.batch.micro // layout.data))
    found = search.best_placement(fabric, exchanges, layout, 8)
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    default = search.default_placement(fabric, exchanges, layout, 8)
    return {
        "nodes": nodes,
        "layout": str(layout),
        "search_seconds": round(spent, 2),
        "search_cpu_seconds": round(cpu, 2),
        "default_seconds": default.cost.seconds,
        "found_seconds": found.cost.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/placement_gap.json")
    parser.add_argument("--quick", action="store_true", help="few and small")
    # Seed 0's clusters are those of the tests, on which the search was tuned.
    parser.add_argument("--seed", type=int, default=20261121, help="of the random clusters (default: %(default)s)")
    args = parser.parse_args()
    count, placements = (20, 500) if args.quick else (210, 2500)
    result = {"machine": describe(), "small": small(count, placements, args.seed)}
    result["large"] = [large(nodes) for nodes in ([512] if args.quick else [1024, 4096])]
    print(json.dumps(result, indent=2))
    if not args.quick:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
