"""Bytes that interface counters should show: of every node's and switch's link, for a plan as it stands."""

from __future__ import annotations

import numpy as np

from launch.placement.plan import Plan
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning.communication import Group
from megatron_nlg.planning.fabric import Fabric
from megatron_nlg.planning.links import DOWN, UP, Places, step_loads
from megatron_nlg.planning.traffic import step_exchanges

LinkBytes = dict[tuple[str, str], tuple[float, float]]
"""(level, node or switch) -> bytes up and down, all rails together."""


def predicted_link_bytes(
    plan: Plan, fabric: Fabric, config: RunConfig, micro_batches: int, kinds: tuple[Group, ...] | None = None
) -> LinkBytes:
    """Of one step; of some kinds of groups only when given. Payload: headers and acknowledgements come on top.

    Collectives are rings in the order of their ranks, which is what gloo and NCCL do with large buffers.
    """
    number = {name: node for node, name in enumerate(fabric.nodes)}
    places = Places.on(np.array([number[host] for host in plan.hosts]))
    exchanges = step_exchanges(config, plan.layout, micro_batches)
    loads = step_loads(fabric, [one for one in exchanges if kinds is None or one.kind in kinds], places)
    found: LinkBytes = {}
    for level, names in enumerate(fabric.members, 1):
        both = sum((own.bytes[level].sum(axis=1) for own in loads.kinds.values()), np.zeros((len(names), 2)))
        for member, name in enumerate(names):
            found[fabric.levels[level].name, name] = float(both[member, UP]), float(both[member, DOWN])
    return found
