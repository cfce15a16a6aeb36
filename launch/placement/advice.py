"""What else would make the step's communication cheaper: other axis orders, algorithms, other splits of the ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from launch.placement.arrangement import axis_orders
from launch.placement.report import Placement, micro_batches, place
from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import consistency, rank_problems
from megatron_nlg.planning.links import Places, step_loads
from megatron_nlg.planning.memory import rank_memory

WORTH = 0.01
"""Less than this part is not worth a word."""
GIB = 2**30


@dataclass(frozen=True)
class Split:
    """The same ranks, cut into other numbers of stages and replicas."""

    pipeline: int
    data: int
    seconds: float
    """Of communication, well placed."""
    bubble: float
    """Idle part of an ideal 1F1B step over its busy part: (stages − 1) / (micro-batches × chunks)."""
    memory: int
    """Bytes of the rank that needs most."""


def splits(placement: Placement, cluster: Cluster) -> list[Split]:
    """All legal ones that fit the memory, the config's own among them, by their communication."""
    own, layout = placement.config, placement.layout
    found = []
    for pipeline in range(1, layout.pipeline * layout.data + 1):
        if (layout.pipeline * layout.data) % pipeline or own.model.num_layers % pipeline:
            continue
        config = own.model_copy(update={"parallel": own.parallel.model_copy(update={"pipeline": pipeline})})
        if any([*consistency(config), *rank_problems(config, layout.world_size)]):
            continue
        split = _split(config, placement, cluster)
        if split is not None:
            found.append(split)
    return sorted(found, key=lambda split: (split.seconds, split.pipeline))


def _split(config: RunConfig, placement: Placement, cluster: Cluster) -> Split | None:
    own, pipeline = config.parallel.pipeline == placement.layout.pipeline, config.parallel.pipeline
    data = placement.layout.pipeline * placement.layout.data // pipeline
    count = micro_batches(config, data)
    memory = max(rank_memory(config, data, count, pipe).total for pipe in {0, 1 % pipeline, pipeline - 1})
    if not own and cluster.memory_gib and cluster.gpus_per_node and memory > cluster.memory_gib * GIB:
        return None
    other = placement
    if not own:
        other = place(config, placement.fabric, placement.layout.world_size, placement.per_node, effort=0)
    bubble = (pipeline - 1) / (count * config.parallel.interleave)
    return Split(pipeline, data, other.loads["chosen"].seconds, bubble, memory)


def orders(placement: Placement) -> dict[str, float]:
    """Seconds of ranks in blocks, in each order of the axes, on nodes sorted by their switches."""
    fabric = placement.fabric
    found: dict[str, float] = {}
    nodes = np.lexsort(fabric.paths)
    for name, ranks in axis_orders(placement.layout):
        node = np.empty(len(ranks), dtype=np.int64)
        node[ranks] = nodes[np.arange(len(ranks)) // placement.per_node]
        found.setdefault(name, step_loads(fabric, placement.exchanges, Places.on(node)).seconds)
    return found


def advice(placement: Placement, cluster: Cluster) -> Iterator[str]:
    """Sentences, each with what it would gain."""
    seconds = placement.loads["chosen"].seconds
    plain = orders(placement)
    if len(plain) > 1:
        listed = ", ".join(f"{name} {time:.4f} s" for name, time in sorted(plain.items(), key=lambda item: item[1]))
        yield f"Plain axis orders on nodes sorted by their switches: {listed}; chosen {seconds:.4f} s."
    own = placement.loads["chosen"].kinds.get("copies")
    ways = sorted((total, way) for way, total in placement.others())
    if own and own.total - ways[0][0] > WORTH * seconds:
        total, way = ways[0]
        yield (
            f"A {way} all-reduce of gradients would take {total:.4f} s in place of {own.total:.4f} s; NCCL's ring is "
            "what DeepSpeed uses."
        )
    legal = splits(placement, cluster)
    current = next((split for split in legal if split.pipeline == placement.layout.pipeline), None)
    for split in legal[:3]:
        if current and split.seconds < seconds * (1 - WORTH):
            yield (
                f"parallel.pipeline={split.pipeline} (data {split.data}) would take {split.seconds:.4f} s in place of "
                f"{seconds:.4f} s; its bubble is {split.bubble:.1%} (now {current.bubble:.1%}) of the computation, its "
                f"fullest rank holds {split.memory / GIB:.1f} GiB (now {current.memory / GIB:.1f})."
            )
