"""Peak memory of ranks on the CPU against what the planner says of them.

    python -m benchmarks.planner_memory            # all layouts, two minutes on two cores
    python -m benchmarks.planner_memory --quick    # two, of a smaller model

A rank's memory is its resident set less what the process had after its imports and a step of a tiny model, which
touches the libraries' code and buffers. That is compared with the sum of the parts that the planner counts. The C
library returns freed memory at once here, as a GPU's allocator can reuse it: runs let it keep all (parallel/device.py),
which saves time, and costs up to half as much again.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from megatron_nlg.config.schema import RunConfig
from tests.tiny import tiny
from tests.world import World

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
RESULT = Path(__file__).parent / "results" / "planner_memory.json"
MODEL = [
    *("model.num_layers=4", "model.hidden_size=512", "model.num_attention_heads=8", "model.sequence_length=256"),
    *("model.vocab_size=8192", "batch.micro=2", "batch.global=16", "schedule.train_tokens=16000"),
]
SMALL = [*MODEL, "model.num_layers=2", "model.hidden_size=256"]
LAYOUTS = [
    (1, ""),
    (1, "parallel.recompute=full"),
    (1, "precision=bf16"),
    (2, ""),
    (2, "precision=bf16"),
    (2, "parallel.zero_stage=2"),
    (2, "parallel.zero_stage=3"),
    (2, "parallel.tensor=2 parallel.sequence=true"),
    (2, "parallel.tensor=2 precision=bf16"),
    (2, "parallel.pipeline=2"),
    (4, "parallel.pipeline=2 precision=bf16"),
    (4, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true parallel.recompute=full"),
]
"""Ranks, and what is laid over the model."""
QUICK = [(1, ""), (1, "precision=bf16 parallel.recompute=full")]


def status(key: str) -> int:
    """Bytes of a line of /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def steps(config: RunConfig, count: int) -> int:
    """Train; the rank's pipeline stage."""
    from megatron.core import parallel_state

    from megatron_nlg.parallel.context import ParallelContext
    from megatron_nlg.training.engine import Engine
    from tests.megatron_nlg.training.steps import batch

    context = ParallelContext.create(config)
    libc = ctypes.CDLL("libc.so.6")
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        libc.mallopt(option, 128 * 1024)
    engine = Engine(config, context)
    for step in range(count):
        engine.train_step(batch(config, context, step, config.batch.global_), 1e-3, step)
    engine.destroy()
    pipe = context.at.pipe
    parallel_state.destroy_model_parallel()
    return pipe


def measure(overrides: list[str], layout: list[str]) -> tuple[int, int]:
    """This rank's stage and its peak bytes."""
    import gc

    steps(tiny("batch.global=16", *layout), 1)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    pipe = steps(tiny(*overrides, *layout), 2)
    return pipe, status("VmHWM") - before


def compare(world: World, model: list[str], ranks: int, overrides: str) -> dict[str, Any]:
    from megatron_nlg.parallel.layout import Layout
    from megatron_nlg.planning.footprint import CPU, footprint

    layout = overrides.split()
    config = tiny(*model, *layout)
    data = Layout.of(config.parallel, ranks).data
    micro_batches = config.batch.global_ // (config.batch.micro * data)
    measured: dict[int, int] = {}
    for pipe, size in world.run(ranks, measure, model, layout, timeout=300):
        measured[pipe] = max(measured.get(pipe, 0), size)
    stages = []
    for pipe, size in sorted(measured.items()):
        parts = footprint(config, data, micro_batches, pipe, CPU)
        stages.append(
            {
                "stage": pipe,
                "measured_mib": round(size / 2**20, 1),
                "predicted_mib": round(parts.total / 2**20, 1),
                "error": round(parts.total / size - 1, 3),
                "parts_mib": {name: round(part / 2**20, 1) for name, part in asdict(parts).items()},
            }
        )
    return {"ranks": ranks, "layout": overrides, "stages": stages}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two layouts of a smaller model; writes nothing")
    parser.add_argument("--only", type=int, help="one layout, by number; writes nothing")
    args = parser.parse_args()
    import megatron_nlg.training.trainer  # noqa: F401

    model, layouts = (SMALL, QUICK) if args.quick else (MODEL, LAYOUTS)
    if args.only is not None:
        layouts = [LAYOUTS[args.only]]
    world = World(max(ranks for ranks, _ in layouts))
    rows = []
    for ranks, overrides in layouts:
        rows.append(compare(world, model, ranks, overrides))
        print(json.dumps(rows[-1]), flush=True)
    world._end()
    if not args.quick and args.only is None:
        result = {"machine": describe(), "model": " ".join(model), "rows": rows}
        RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
