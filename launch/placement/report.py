"""What a placement is worth: bytes and seconds by level and kind, against SLURM's default and against the bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from launch.placement.bound import Bound, lower_bound
from launch.placement.plan import Plan
from launch.placement.search import EFFORT, Found, best_placement, default_placement
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.communication import Group
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.links import Loads, Places, step_loads
from megatron_nlg.planning.traffic import Algorithm, Exchange, step_exchanges

GIGA = 1e9


@dataclass(frozen=True, eq=False)
class Placement:
    """A run on a fabric: the default and the chosen placement."""

    config: RunConfig
    layout: Layout
    micro_batches: int
    fabric: Fabric
    """All nodes that there are, in SLURM's order; spares among them."""
    per_node: int
    exchanges: tuple[Exchange, ...]
    default: Found
    chosen: Found

    @cached_property
    def loads(self) -> dict[str, Loads]:
        """Of both placements."""
        return {
            name: step_loads(self.fabric, self.exchanges, Places.on(found.node))
            for name, found in (("chosen", self.chosen), ("default", self.default))
        }

    @cached_property
    def bound(self) -> Bound:
        """What no placement with whole tensor groups is faster than."""
        return lower_bound(self.fabric, self.exchanges, self.layout, self.per_node)

    @property
    def least_seconds(self) -> float:
        """The bound, or the optimum where it is known."""
        return self.loads["chosen"].seconds if self.chosen.proven else self.bound.seconds

    @cached_property
    def plan(self) -> Plan:
        """Of the chosen placement."""
        return Plan(self.layout, tuple(self.fabric.nodes[node] for node in self.chosen.node.tolist()))

    @property
    def spares(self) -> tuple[str, ...]:
        """Nodes that stay empty."""
        used = set(self.chosen.node.tolist())
        return tuple(name for node, name in enumerate(self.fabric.nodes) if node not in used)

    def others(self) -> Iterator[tuple[str, float]]:
        """(what, seconds) of all-reduces of gradients by other algorithms, on the chosen placement."""
        places = Places.on(self.chosen.node)
        ways: list[tuple[str, Algorithm, int]] = [
            (f"hierarchical (by {at.name})", "hierarchical", level) for level, at in enumerate(self.fabric.levels[1:])
        ]
        for name, algorithm, level in [*ways, ("halving and doubling", "recursive", 0)]:
            part = self.fabric.paths[level][places.node]
            loads = step_loads(self.fabric, self.exchanges, places, algorithm, part)
            if "copies" in loads.kinds:
                yield name, loads.kinds["copies"].total


def micro_batches(config: RunConfig, data: int) -> int:
    """Of a replica in a step of the full batch."""
    return -(-config.batch.global_ // (config.batch.micro * data))


def place(config: RunConfig, fabric: Fabric, ranks: int, per_node: int, effort: int | None = EFFORT) -> Placement:
    """Place a run of so many ranks on a fabric, which may have nodes to spare; as SLURM does it with `effort` None."""
    layout = Layout.of(config.parallel, ranks)
    count = micro_batches(config, layout.data)
    exchanges = tuple(step_exchanges(config, layout, count))
    default = default_placement(fabric, exchanges, layout, per_node)
    chosen = default if effort is None else best_placement(fabric, exchanges, layout, per_node, effort)
    return Placement(config, layout, count, fabric, per_node, exchanges, default, chosen)


def tree(placement: Placement) -> dict[str, Any]:
    """Everything for machines: bytes and seconds a step."""
    fabric, loads, bound = placement.fabric, placement.loads, placement.bound
    return {
        "layout": asdict(placement.layout),
        "micro_batches": placement.micro_batches,
        "nodes": len(placement.plan.nodes),
        "spares": list(placement.spares),
        "arrangement": placement.chosen.problem.arrangement.name,
        "proven_optimal": placement.chosen.proven,
        "seconds": {name: loads[name].seconds for name in loads} | {"bound": placement.least_seconds},
        "levels": [
            {
                "level": at.name,
                "links": link_count(fabric, level),
                "bandwidth_gbs": at.bandwidth_gbs,
                "bytes": {name: loads[name].level_bytes(level) for name in loads} | {"bound": bound.level_bytes[level]},
                "seconds": {name: loads[name].level_seconds(level) for name in loads}
                | {"bound": bound.level_seconds[level]},
            }
            for level, at in enumerate(fabric.levels)
        ],
        "kinds": {kind: {name: _kind(loads[name], kind) for name in loads} for kind in loads["chosen"].kinds},
        "all_reduce_of_gradients": dict(placement.others()),
    }


def _kind(loads: Loads, kind: Group) -> dict[str, Any]:
    return {"seconds": list(loads.kinds[kind].seconds), "latency_seconds": loads.kinds[kind].latency}


def link_count(fabric: Fabric, level: int) -> int:
    """Links of a level; those of GPUs too."""
    return len(fabric.members[level - 1]) if level else len(fabric.nodes) * fabric.gpus_per_node


def render(placement: Placement, searched: bool = True) -> str:
    """A text to read."""
    columns = ("chosen", "default", "bound") if searched else ("default",)
    lines = [*_layout_lines(placement), "", *_level_lines(placement, columns), "", *_kind_lines(placement, columns)]
    if searched:
        lines += ["", *reasons(placement)]
    return "\n".join(lines)


def _layout_lines(placement: Placement) -> Iterator[str]:
    layout, plan = placement.layout, placement.plan
    yield (
        f"{layout} = {layout.world_size:,} ranks on {len(plan.nodes)} nodes of {placement.per_node}; "
        f"{placement.micro_batches} micro-batches a replica and step"
    )
    if placement.spares:
        names = ", ".join(placement.spares[:8]) + (" …" if len(placement.spares) > 8 else "")
        yield f"spare nodes, left out: {names}"


def _level_lines(placement: Placement, columns: tuple[str, ...]) -> Iterator[str]:
    """GB over all links of each level, one way, and seconds of its most loaded ones."""
    rows = [["level", "links", "GB/s each", *(f"{name} {unit}" for name in columns for unit in ("GB", "s"))]]
    for level, at in enumerate(placement.fabric.levels):
        row = [at.name, str(link_count(placement.fabric, level)), f"{at.bandwidth_gbs:g}"]
        for name in columns:
            if name == "bound":
                figures = placement.bound.level_bytes[level], placement.bound.level_seconds[level]
            else:
                figures = placement.loads[name].level_bytes(level), placement.loads[name].level_seconds(level)
            row += [f"{figures[0] / GIGA:,.1f}", f"{figures[1]:.4f}"]
        rows.append(row)
    total = ["step", "", ""]
    for name in columns:
        total += ["", f"{placement.least_seconds if name == 'bound' else placement.loads[name].seconds:.4f}"]
    yield "Bytes over all links of a level, upwards, and seconds of its most loaded ones, a step:"
    yield from _table([*rows, total])


def _kind_lines(placement: Placement, columns: tuple[str, ...]) -> Iterator[str]:
    names = [name for name in columns if name != "bound"]
    rows = [["groups", *(f"{name} {what}" for name in names for what in ("s", "on", "waiting s"))]]
    for kind in placement.loads["chosen"].kinds:
        row: list[str] = [kind]
        for name in names:
            loads = placement.loads[name].kinds[kind]
            slowest = int(np.argmax(loads.seconds))
            row += [f"{loads.seconds[slowest]:.4f}", placement.fabric.levels[slowest].name, f"{loads.latency:.4f}"]
        rows.append(row)
    yield "By kind of group: seconds of its slowest links, and of waiting for messages on their way:"
    yield from _table(rows)
    yield "These add up to the step's; what computation hides of them is not taken off."


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  " + "  ".join(cells).rstrip()


def reasons(placement: Placement) -> Iterator[str]:
    """Why it is this one, in a few sentences."""
    chosen, default = placement.loads["chosen"], placement.loads["default"]
    if not chosen.kinds:
        yield "Ranks have nothing to say to each other."
        return
    ratio = default.seconds / chosen.seconds
    worth = f"{ratio:.3g} times as fast as" if ratio > 1.0005 else "as fast as"
    yield f"Chosen: {_filling(placement)}; {worth} SLURM's order."
    yield from _crossings(placement)
    if placement.chosen.proven:
        yield "No placement with whole tensor groups in nodes is faster: all were looked at, or ruled out."
    elif chosen.seconds <= placement.bound.seconds * (1 + 1e-9):
        yield "No placement with whole tensor groups in nodes is faster: it reaches the bound."
    else:
        over = chosen.seconds / placement.bound.seconds - 1
        yield f"It is {over:.2%} over the bound: no placement with whole tensor groups in nodes gains more."


def _filling(placement: Placement) -> str:
    """What a node holds."""
    tensor, per_node = placement.layout.tensor, placement.per_node
    if tensor % per_node == 0:
        return (
            "one tensor group a node" if tensor == per_node else f"tensor groups over {tensor // per_node} nodes each"
        )
    return f"nodes filled by {placement.chosen.problem.arrangement.name}"


def _crossings(placement: Placement) -> Iterator[str]:
    """How many groups leave the switches of each level, in both placements."""
    fabric, layout = placement.fabric, placement.layout
    kinds = [
        (name, groups)
        for name, groups in (
            ("data-parallel groups", layout.data_groups()),
            ("pipelines", layout.pipeline_groups()),
        )
        if len(groups[0]) > 1
    ]
    for level in range(2, len(fabric.levels)):
        if len(fabric.members[level - 1]) < 2:
            continue
        parts = []
        for name, groups in kinds:
            chosen, default = (
                int((np.ptp(fabric.paths[level - 1][found.node][np.array(groups)], axis=1) > 0).sum())
                for found in (placement.chosen, placement.default)
            )
            parts.append(f"{chosen:,} of {len(groups):,} {name} (default {default:,})")
        yield f"Under more than one {fabric.levels[level].name}: {', '.join(parts)}."
