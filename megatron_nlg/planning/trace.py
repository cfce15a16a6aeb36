"""A simulated step as a Chrome trace, in the format in which training records real ones (training/timeline.py)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.step import Step


def trace(step: Step, layout: Layout) -> dict[str, Any]:
    """A track a stage, its first tensor rank of the first replica; times in microseconds. The first step is step 1."""
    stages = Layout(layout.pipeline, 1, 1, interleave=layout.interleave)
    places = [asdict(stages.coordinates(rank)) for rank in range(layout.pipeline)]
    events = [{"ph": "M", "pid": 0, "name": "process_name", "args": {"name": f"{layout}, predicted"}}]
    for stage, order in enumerate(step.simulated.orders):
        names = {"name": f"stage {stage}"}
        events.append({"ph": "M", "pid": 0, "tid": stage, "name": "thread_name", "args": names})
        events.append({"ph": "M", "pid": 0, "tid": stage, "name": "thread_sort_index", "args": {"sort_index": stage}})
        begin, end = step.simulated.begin[stage][:, 0], step.simulated.end[stage][:, 0]
        for one, start, stop in zip(order, begin, end, strict=True):
            details = {"step": 1, "micro_batch": one.micro_batch, "chunk": one.chunk}
            events.append(_span(stage, f"{one.kind} {one.micro_batch}", one.kind, float(start), float(stop), details))
        # What comes last waits for the slowest stage. Where ranks share cores it is part of the last pass.
        update, now = step.seconds - step.breakdown.optimizer, float(end[-1])
        if now <= update:
            summed = min(now + step.breakdown.data, update)
            events.append(_span(stage, "gradients and weights of replicas", "all-reduce", now, summed, {"step": 1}))
            events.append(_span(stage, "optimizer step", "optimizer", update, step.seconds, {"step": 1}))
    about = {"layout": asdict(stages), "ranks": places, "steps": [1]}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _span(stage: int, name: str, phase: str, begin: float, end: float, details: dict[str, int]) -> dict[str, Any]:
    times = {"ts": round(begin * 1e6, 3), "dur": round((end - begin) * 1e6, 3)}
    return {"ph": "X", "pid": 0, "tid": stage, **times, "name": name, "cat": phase, "args": details}
