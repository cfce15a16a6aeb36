"""A layout that can't run is refused before a GPU is touched, with the nearest ones that can."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_nlg.config.base import apply_overrides, build, read_yaml
from megatron_nlg.config.classification import with_loaded_model
from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.errors import ConfigError, Problem
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import load_config, replica_ranks
from megatron_nlg.planning.footprint import CPU, CUDA, GIB, Device, Footprint, footprint
from megatron_nlg.planning.layouts import RECOMPUTE, layouts

OFFERED = 3


@dataclass(frozen=True)
class Room:
    """Memory that a rank has."""

    gib: float
    of: str
    """Whose, for messages."""
    device: Device

    def holds(self, parts: Footprint) -> bool:
        """Whether a rank may fit. On the CPU, where others use the memory too, only model state must."""
        return self.need(parts) <= self.gib

    def need(self, parts: Footprint) -> float:
        """GiB that are compared."""
        if self.device is CPU:
            return (parts.weights + parts.gradients + parts.optimizer) / GIB
        return parts.total / GIB


def room_of(cluster: Cluster, ranks_per_node: int) -> Room | None:
    """What a cluster's description says of a rank's memory, if anything."""
    if cluster.memory_gib is None:
        return None
    if cluster.gpus_per_node:
        return Room(cluster.memory_gib, f"{cluster.accelerator or 'an accelerator'} of {cluster.name}", CUDA)
    return Room(cluster.memory_gib / ranks_per_node, f"each of {ranks_per_node} ranks a node of {cluster.name}", CPU)


def load_fitting(path: Path, overrides: Sequence[str], ranks: int, room: Room | None) -> RunConfig:
    """The config, when its layout is legal on `ranks` ranks and may fit their memory, as far as that is known.

    Raises ConfigError with every problem and the nearest layouts without any.
    """
    try:
        config = load_config(path, overrides, ranks)
    except ConfigError as error:
        nearest = _hints_of_illegal(path, overrides, ranks, room)
        raise ConfigError(error.problems, str(path), nearest) from None
    if room is None or not config.parallel.check_memory:
        return config
    stage, need = fullest(config, ranks, room)
    if need > room.gib:
        problem = Problem(
            "parallel",
            f"a rank of stage {stage} needs {need:.1f} GiB, and {room.of} has {room.gib:.1f}",
            "choose another layout or more ranks, or start anyway with parallel.check_memory=false",
        )
        raise ConfigError([problem], str(path), hints(config, ranks, room))
    return config


def fullest(config: RunConfig, ranks: int, room: Room) -> tuple[int, float]:
    """The pipeline stage whose ranks need most, and how many GiB."""
    data = ranks // replica_ranks(config)
    micro_batches = config.batch.global_ // (config.batch.micro * data)
    stages = config.parallel.pipeline
    needs = {
        pipe: room.need(footprint(config, data, micro_batches, pipe, room.device))
        for pipe in sorted({0, min(1, stages - 1), stages - 1})
    }
    stage = max(needs, key=lambda pipe: needs[pipe])
    return stage, needs[stage]


def hints(config: RunConfig, ranks: int, room: Room | None) -> list[str]:
    """The nearest legal layouts that fit, as overrides; else the one that comes nearest to fitting."""
    legal = sorted(layouts(config, ranks, "this", Counter()), key=lambda other: _distance(config, other))
    if not legal:
        return []
    if room is None:
        return [f"legal on {ranks} ranks: {_overrides(config, other)}" for other in legal[:OFFERED]]
    fitting = (other for other in legal if fullest(other, ranks, room)[1] <= room.gib)
    found = [f"fits: {_overrides(config, other)}" for other, _ in zip(fitting, range(OFFERED), strict=False)]
    if found:
        return found
    least = min(legal, key=lambda other: fullest(other, ranks, room)[1])
    return [
        f"no layout of {ranks} ranks fits; {_overrides(config, least)} needs {fullest(least, ranks, room)[1]:.1f} GiB"
    ]


def _hints_of_illegal(path: Path, overrides: Sequence[str], ranks: int, room: Room | None) -> list[str]:
    try:
        config = build(RunConfig, with_loaded_model(apply_overrides(read_yaml(path), overrides)), str(path))
    except ConfigError:
        return []
    return hints(config, ranks, room)


def _distance(config: RunConfig, other: RunConfig) -> float:
    """How much of a layout is changed: powers of two of its sizes, half of one for each mode."""
    here, there = config.parallel, other.parallel
    sizes = ((here.tensor, there.tensor), (here.pipeline, there.pipeline), (here.interleave, there.interleave))
    far = sum(abs(math.log2(a / b)) for a, b in (*sizes, (config.batch.micro, other.batch.micro)))
    modes = abs(RECOMPUTE.index(here.recompute) - RECOMPUTE.index(there.recompute)) / 2
    return far + modes / 2 + (here.sequence != there.sequence) / 2 + abs(here.zero_stage - there.zero_stage) / 2


def _overrides(config: RunConfig, other: RunConfig) -> str:
    """What to change, as a user types it."""
    keys = ("tensor", "pipeline", "interleave", "sequence", "zero_stage", "recompute")
    changes = [
        f"parallel.{key}={str(getattr(other.parallel, key)).lower()}"
        for key in keys
        if getattr(other.parallel, key) != getattr(config.parallel, key)
    ]
    if other.batch.micro != config.batch.micro:
        changes.append(f"batch.micro={other.batch.micro}")
    return " ".join(changes) or "the config as it is"
