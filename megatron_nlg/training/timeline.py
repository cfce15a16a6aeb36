"""What every rank is doing at every moment of chosen steps, as one Chrome trace for all ranks.

Megatron-core's schedules report forward, backward and point-to-point calls to `config.timers`; a timeline takes that
place while it records, wraps DeepSpeed's step and torch.distributed's collectives, and puts all back afterwards. On a
GPU the device is synchronised at every boundary: phases are true, the overlap between them is lost.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.callbacks.metrics import replace_text
from megatron_nlg.training.engine import Engine

COLLECTIVES = (
    *("all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter"),
    *("all_gather_into_tensor", "reduce_scatter_tensor"),
)


@dataclass(frozen=True)
class Span:
    """A phase of a rank, in seconds since recording began. Spans of a rank nest, and never overlap otherwise."""

    phase: str
    """data, forward, backward, p2p, all-reduce (any collective) or optimizer."""
    name: str
    begin: float
    end: float
    details: dict[str, int]
    """step; of forward and backward passes also micro_batch and chunk."""


class Timeline:
    """Records the steps `first` to `last`; does nothing outside of them. Every method is collective."""

    def __init__(self, steps: tuple[int, int] | None, engine: Engine, context: ParallelContext, folder: Path):
        self.steps, self.engine, self.context, self.folder = steps, engine, context, folder
        self.spans: list[Span] = []
        self._recorded: list[int] = []
        self._origin = 0.0
        self._waited = 0.0
        self._open: list[tuple[str, float]] = []
        self._orders: dict[str, Iterator[tuple[int, int]]] = {}

    @contextmanager
    def step(self, step: int, micro_batches: int, waited: float) -> Iterator[None]:
        """Around a training step of this many micro-batches; `waited` is what all steps have waited for data so far."""
        if not self.steps or not self.steps[0] <= step <= self.steps[1]:
            yield
            return
        if not self._recorded:
            self._origin, self._waited = self._common_origin(), waited
        now = self._now()
        if waited > self._waited:
            self._add("data", "wait for the batch", now - (waited - self._waited), now, {"step": step})
        self._waited = waited
        self._recorded.append(step)
        self._orders = self._schedule(micro_batches)
        with self._listening():
            yield
        self._now()
        if step == self.steps[1]:
            self.finish()

    def finish(self) -> Path | None:
        """Gather all ranks' spans and write the trace, once; its path where something was recorded since."""
        if not self._recorded:
            return None
        gathered: list[Any] | None = [None] * self.context.layout.world_size if self.context.is_main else None
        dist.gather_object(self.spans, gathered, dst=0)
        path = self.folder / "logs" / f"timeline_steps_{self._recorded[0]}-{self._recorded[-1]}.json"
        if gathered is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(self._trace(gathered)) + "\n")
        self.spans, self._recorded, self.steps = [], [], None
        return path

    # ---- what Megatron-core calls --------------------------------------------------------------------------------

    def __call__(self, name: str, log_level: int = 0) -> _Timer:
        """The timer of a phase, by Megatron-core's name for it."""
        return _Timer(self, name)

    def start(self, name: str) -> None:
        """A phase begins."""
        self._open.append((name, self._now()))

    def stop(self, name: str) -> None:
        """The phase that began last ends."""
        begun, begin = self._open.pop()
        assert begun == name, f"{name} ends inside {begun}"
        kind = {"forward-compute": "forward", "backward-compute": "backward"}.get(name)
        details = {"step": self._recorded[-1]}
        if kind is None:
            self._add("p2p", name, begin, self._now(), details)
            return
        micro_batch, chunk = next(self._orders[kind])
        where = {"micro_batch": micro_batch, "chunk": chunk}
        self._add(kind, f"{kind} {micro_batch}", begin, self._now(), details | where)

    # ---- recording -----------------------------------------------------------------------------------------------

    def _common_origin(self) -> float:
        """The moment that times are counted from. Ranks on rank 0's node share its clock; others start at a barrier."""
        self.context.barrier()
        here = (socket.gethostname(), time.perf_counter())
        answer = [here]
        dist.broadcast_object_list(answer, src=0)
        return answer[0][1] if answer[0][0] == here[0] else here[1]

    def _now(self) -> float:
        """Seconds since recording began, when the device has done all that it was told."""
        if self.context.device.torch.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - self._origin

    def _add(self, phase: str, name: str, begin: float, end: float, details: dict[str, int]) -> None:
        self.spans.append(Span(phase, name, begin, end, details))

    def _schedule(self, micro_batches: int) -> dict[str, Iterator[tuple[int, int]]]:
        """(micro-batch, chunk) of the forward passes of a step in their order, and of the backward passes."""
        from megatron.core.pipeline_parallel.schedules import get_schedule_table

        layout = self.context.layout
        table = get_schedule_table(micro_batches, layout.interleave, layout.pipeline if layout.interleave > 1 else 1)
        backward = [(micro_batch, layout.interleave - 1 - chunk) for micro_batch, chunk in table]
        return {"forward": iter(table), "backward": iter(backward)}

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """In place of Megatron-core's timers, and around what is not timed by it."""
        core: Any = self.engine.chunks[0].config
        deepspeed = self.engine.deepspeed
        kept = {name: getattr(dist, name) for name in COLLECTIVES}
        core.timers = self
        deepspeed.step = self._timed("optimizer", "optimizer step", deepspeed.step)
        for name, function in kept.items():
            setattr(dist, name, self._timed("all-reduce", name, function))
        try:
            yield
        finally:
            core.timers = None
            del deepspeed.step  # the instance's: the class's is there again
            for name, function in kept.items():
                setattr(dist, name, function)

    def _timed(self, phase: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            begin = self._now()
            try:
                return function(*args, **options)
            finally:
                self._add(phase, name, begin, self._now(), {"step": self._recorded[-1]})

        return call

    def _trace(self, gathered: list[list[Span]]) -> dict[str, Any]:
        """Chrome's trace event format: a track a rank, times in microseconds."""
        layout = self.context.layout
        places = [asdict(layout.coordinates(rank)) for rank in range(layout.world_size)]
        events: list[dict[str, Any]] = [{"ph": "M", "pid": 0, "name": "process_name", "args": {"name": str(layout)}}]
        for rank, (place, spans) in enumerate(zip(places, gathered, strict=True)):
            about = ", ".join(f"{axis} {index}" for axis, index in place.items())
            events.append(_track(rank, "thread_name", {"name": f"rank {rank} ({about})"}))
            events.append(_track(rank, "thread_sort_index", {"sort_index": rank}))
            for s in sorted(spans, key=lambda s: (s.begin, -s.end)):
                times = {"ts": round(s.begin * 1e6, 3), "dur": round((s.end - s.begin) * 1e6, 3)}
                what = {"name": s.name, "cat": s.phase, "args": s.details}
                events.append({"ph": "X", "pid": 0, "tid": rank, **times, **what})
        about_run = {"layout": asdict(layout), "ranks": places, "steps": self._recorded}
        return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about_run}


class _Timer:
    """What Megatron-core asks of a timer."""

    def __init__(self, timeline: Timeline, name: str):
        self.timeline, self.name = timeline, name

    def start(self, barrier: bool = False) -> None:
        """Begin, unless it is the whole of forward and backward."""
        if self.name != "forward-backward":
            self.timeline.start(self.name)

    def stop(self, barrier: bool = False) -> None:
        """End."""
        if self.name != "forward-backward":
            self.timeline.stop(self.name)


def _track(rank: int, name: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "pid": 0, "tid": rank, "name": name, "args": args}
