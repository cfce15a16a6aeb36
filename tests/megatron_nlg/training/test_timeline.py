"""Timelines of real pipelines: the order that 1F1B and its interleaved form have, and nothing left behind."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.timeline import COLLECTIVES, Timeline
from tests.megatron_nlg.training.steps import batch
from tests.tiny import tiny
from tests.world import World

Event = dict[str, Any]


def record(folder: Path, steps: tuple[int, int] | None, *overrides: str) -> list[float]:
    """Three steps of four micro-batches a replica; the losses."""
    config = tiny("batch.global=8", *overrides)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    timeline = Timeline(steps, engine, context, folder)
    before, losses = [getattr(dist, name) for name in COLLECTIVES], []
    for step in (1, 2, 3):
        parts = batch(config, context, step, 8)
        with timeline.step(step, len(parts), waited=0.001 * step):
            losses.append(float(engine.train_step(parts, 1e-3, step).loss))
    timeline.finish()
    assert [getattr(dist, name) for name in COLLECTIVES] == before
    assert engine.chunks[0].config.timers is None
    engine.destroy()
    return losses


def events(folder: Path, name: str = "timeline_steps_2-3.json") -> dict[int, list[Event]]:
    """Spans by rank, in the order of their beginning."""
    trace = json.loads((folder / "logs" / name).read_text())
    spans: dict[int, list[Event]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            spans.setdefault(event["tid"], []).append(event)
    return spans


def passes(spans: list[Event], step: int) -> list[tuple[str, int, int]]:
    """Phase, micro-batch and chunk of a rank's passes."""
    found = [s for s in spans if s["cat"] in ("forward", "backward") and s["args"]["step"] == step]
    return [(s["cat"][0].upper(), s["args"]["micro_batch"], s["args"]["chunk"]) for s in found]


def end(span: Event) -> float:
    return float(span["ts"] + span["dur"])


def test_1f1b(world: World, tmp_path: Path) -> None:
    layout = ("parallel.pipeline=2", "parallel.tensor=2")
    recorded = world.run(4, record, tmp_path, (2, 3), *layout)
    assert recorded == world.run(4, record, tmp_path / "none", None, *layout)
    assert not (tmp_path / "none").exists()
    spans = events(tmp_path)
    assert sorted(spans) == [0, 1, 2, 3]
    for step in (2, 3):
        first = [f"{phase}{number}" for phase, number, _ in passes(spans[0], step)]
        last = [f"{phase}{number}" for phase, number, _ in passes(spans[3], step)]
        assert first == ["F0", "F1", "B0", "F2", "B1", "F3", "B2", "B3"]
        assert last == ["F0", "B0", "F1", "B1", "F2", "B2", "F3", "B3"]
    for rank in spans:
        assert {s["cat"] for s in spans[rank]} == {"data", "forward", "backward", "p2p", "all-reduce", "optimizer"}
        for before, after in pairwise(spans[rank]):
            assert end(before) <= after["ts"] + 1 or end(after) <= end(before) + 1  # one after the other, or nested


def test_interleaved_passes_wait_for_the_chunk_before_them(world: World, tmp_path: Path) -> None:
    world.run(2, record, tmp_path, (2, 3), "parallel.pipeline=2", "parallel.interleave=2")
    spans = events(tmp_path)
    done = {
        (s["args"]["micro_batch"], s["args"]["chunk"], rank, s["cat"]): s
        for rank in spans
        for s in spans[rank]
        if s["cat"] in ("forward", "backward") and s["args"]["step"] == 3
    }
    assert len(done) == 4 * 2 * 2 * 2
    for micro_batch in range(4):
        way = [(chunk, rank) for chunk in (0, 1) for rank in (0, 1)]
        forward = [done[micro_batch, chunk, rank, "forward"] for chunk, rank in way]
        backward = [done[micro_batch, chunk, rank, "backward"] for chunk, rank in reversed(way)]
        chain = [*forward, *backward]
        for before, after in pairwise(chain):
            assert end(before) <= after["ts"] + 1


def test_a_run_that_ends_inside_the_steps_writes_what_it_has(world: World, tmp_path: Path) -> None:
    world.run(1, record, tmp_path, (3, 9))
    assert list(events(tmp_path, "timeline_steps_3-3.json")) == [0]


@pytest.mark.parametrize("steps", [(4, 9), None])
def test_nothing_is_written_for_steps_that_did_not_come(
    world: World, tmp_path: Path, steps: tuple[int, int] | None
) -> None:
    world.run(1, record, tmp_path, steps)
    assert list(tmp_path.iterdir()) == []
