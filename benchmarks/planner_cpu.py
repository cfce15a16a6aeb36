"""Step times of a small model on 1 to 8 gloo ranks that share this machine's cores: predicted, then measured.

    python -m benchmarks.planner_cpu [--rounds 3] [--quick] [--cluster FILE]

Every round calibrates (`megatron-nlg plan --calibrate`), predicts every layout, then trains some steps in each, with
new processes: a shared machine is not as fast in one quarter of an hour as in another. A layout's error is the median
over the rounds of what its prediction was off in each, and its seconds are the medians of the rounds'. Work is what all
ranks' processors have spent, over the cores. Writes benchmarks/results/planner_cpu.json and docs/planner_cpu.png; exit
code 1 when a layout is more than 20 % off. About five minutes a round.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from megatron_nlg.config.base import apply_overrides, build
from megatron_nlg.config.cluster import Cluster, load_cluster
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.planning.step import StepModel, as_dict

RESULT, PICTURE = Path("benchmarks/results/planner_cpu.json"), Path("docs/planner_cpu.png")
LIMIT = 0.2
BATCH, MICRO = 16, 2
WARM_UP = 4  # steps until the allocator has all the memory that it goes on with
TREE: dict[str, Any] = {
    "model": {
        "num_layers": 8,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "sequence_length": 256,
        "vocab_size": 4096,
    },
    "batch": {"micro": MICRO, "global": BATCH},
    "precision": "fp32",
    "optimizer": {"lr": 1e-3},
    "schedule": {"train_tokens": BATCH * 256 * 100},
}
LAYOUTS = {  # name -> ranks, settings
    "1 rank": (1, ""),
    "1 rank, recompute": (1, "recompute=full"),
    "TP2": (2, "tensor=2"),
    "TP2+SP": (2, "tensor=2 sequence=true"),
    "PP2": (2, "pipeline=2"),
    "DP2": (2, ""),
    "TP4": (4, "tensor=4"),
    "PP4": (4, "pipeline=4"),
    "PP2×2 DP2": (4, "pipeline=2 interleave=2"),
    "DP4 ZeRO-2": (4, "zero_stage=2"),
    "TP2 PP2": (4, "tensor=2 pipeline=2"),
    "PP4 recompute": (4, "pipeline=4 recompute=full"),
    "TP2+SP PP2 DP2": (8, "tensor=2 pipeline=2 sequence=true"),
    "PP8": (8, "pipeline=8"),
    "DP8": (8, ""),
}


def config_of(name: str) -> RunConfig:
    settings = [f"parallel.{setting}" for setting in LAYOUTS[name][1].split()]
    return build(RunConfig, apply_overrides(TREE, settings), name)


def predict(name: str, cluster: Cluster) -> dict[str, Any]:
    config, ranks = config_of(name), LAYOUTS[name][0]
    model = StepModel(config, cluster, ranks)
    found = model.step(BATCH // (model.layout.data * MICRO))
    return {"seconds": found.seconds, "breakdown": as_dict(found.breakdown)}


def train(name: str, steps: int) -> dict[str, list[float]]:
    """On one rank: seconds of each step, from barrier to barrier, and the seconds its processor worked."""
    import torch.distributed as dist

    from megatron_nlg.parallel.context import ParallelContext
    from megatron_nlg.training.engine import Engine
    from megatron_nlg.training.verification.measure import synthetic_batch

    config = config_of(name)
    context = ParallelContext.create(config)
    engine = Engine(config, context)
    batch = list(synthetic_batch(config, context, 1, BATCH, masked=False))
    seconds, work = [], []
    for step in range(steps + WARM_UP):
        dist.barrier()
        start, worked = time.perf_counter(), time.process_time()
        engine.train_step(batch, 1e-3, step)
        dist.barrier()
        seconds.append(time.perf_counter() - start)
        work.append(time.process_time() - worked)
    return {"seconds": seconds[WARM_UP:], "work": work[WARM_UP:]}


def measure(names: list[str], steps: int, out: Path) -> None:
    """In a process of its own with one thread: every layout once."""
    from megatron_nlg.training.calibration import run_ranks

    found: dict[str, dict[str, float]] = {}
    cores = len(os.sched_getaffinity(0))
    for name in names:
        ranks = run_ranks(LAYOUTS[name][0], train, name, steps)
        work = [sum(rank["work"][step] for rank in ranks) for step in range(steps)]
        found[name] = {
            "seconds": statistics.median(ranks[0]["seconds"]),
            "work": statistics.median(work) / min(cores, len(ranks)),
            "load": os.getloadavg()[0],
        }
        print(f"{name}: {found[name]['seconds']:.3f} s, work {found[name]['work']:.3f} s", flush=True)
    out.write_text(json.dumps(found), encoding="utf-8")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), gridspec_kw={"width_ratios": [1, 1.4]})
    for ranks, marker in ((1, "o"), (2, "s"), (4, "^"), (8, "D")):
        some = [row for row in rows if row["ranks"] == ranks]
        x, y = ([row[key] for row in some] for key in ("measured_seconds", "predicted_seconds"))
        left.plot(x, y, marker, label=f"{ranks} ranks" if ranks > 1 else "1 rank")
    top = 1.1 * max(max(row["measured_seconds"], row["predicted_seconds"]) for row in rows)
    left.plot([0, top], [0, top], color="0.6", linewidth=0.8)
    left.fill_between([0, top], [0, 0.8 * top], [0, 1.2 * top], color="0.92", label="± 20 %")
    left.set(xlabel="measured seconds a step", ylabel="predicted seconds a step", xlim=(0, top), ylim=(0, top))
    left.legend(loc="upper left", frameon=False)
    names, bottom = [row["layout"] for row in rows], [0.0] * len(rows)
    for part in rows[0]["breakdown"]:
        lengths = [row["breakdown"][part] for row in rows]
        right.barh(names, lengths, left=bottom, label=part)
        bottom = [a + b for a, b in zip(bottom, lengths, strict=True)]
    right.plot([row["measured_seconds"] for row in rows], names, "k|", markersize=14, label="measured")
    for i, row in enumerate(rows):
        right.text(
            max(bottom[i], row["measured_seconds"]) + 0.02 * top, i, f"{row['error']:+.0%}", va="center", fontsize=8
        )
    right.invert_yaxis()
    right.set(xlabel="predicted seconds, by part", xlim=(0, 1.12 * top))
    right.legend(loc="upper center", bbox_to_anchor=(0.45, 1.15), ncols=7, frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


Round = tuple[dict[str, Any], dict[str, Any]]
"""By layout: what was predicted, and what was measured then."""


def compare(rounds: list[Round]) -> list[dict[str, Any]]:
    rows = []
    for name in rounds[0][0]:
        predicted, measured = ([one[side][name] for one in rounds] for side in (0, 1))
        errors = [p["seconds"] / m["seconds"] - 1 for p, m in zip(predicted, measured, strict=True)]
        parts = predicted[0]["breakdown"]
        row = {
            "layout": name,
            "ranks": LAYOUTS[name][0],
            "measured_seconds": round(statistics.median(m["seconds"] for m in measured), 4),
            "measured_work": round(statistics.median(m["work"] for m in measured), 4),
            "predicted_seconds": round(statistics.median(p["seconds"] for p in predicted), 4),
            "error": round(statistics.median(errors), 4),
            "errors": [round(error, 4) for error in errors],
            "measured": [round(m["seconds"], 4) for m in measured],
            "load_average": [round(m["load"], 1) for m in measured],
            "breakdown": {part: round(statistics.median(p["breakdown"][part] for p in predicted), 4) for part in parts},
        }
        rows.append(row)
        print(f"{name:20} measured {row['measured_seconds']:6.3f} (work {row['measured_work']:6.3f})", end=" ")
        print(f"predicted {row['predicted_seconds']:6.3f} {row['error']:+7.1%}, by round", end=" ")
        print(" ".join(f"{error:+.0%}" for error in errors))
    return rows


def go_round(cluster: Path | None, layouts: list[str], steps: int, folder: Path) -> tuple[Round, str]:
    """Calibrate, predict and measure; also the text of the calibration."""
    path, raw = cluster or folder / "calibrated.yaml", folder / "measured.json"
    if not cluster:
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "megatron_nlg.cli", "plan", "--calibrate", "--out", str(path)]
        subprocess.run(command, check=True)
    rates = load_cluster(path)
    predicted = {name: predict(name, rates) for name in layouts}
    command = [sys.executable, "-m", "benchmarks.planner_cpu", "--measure", str(raw), "--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--layouts", *layouts], check=True, env=environment, stderr=subprocess.DEVNULL)
    return (predicted, json.loads(raw.read_text())), path.read_text(encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="one round of two steps, nothing written")
    parser.add_argument("--cluster", type=Path, help="calibrated before; else it is now")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    rounds, steps = (1, 2) if args.quick else (args.rounds, args.steps)
    if args.measure:
        measure(args.layouts, args.steps, args.measure)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        done = [go_round(args.cluster, args.layouts, steps, Path(folder)) for _ in range(rounds)]
    rows = compare([one for one, _ in done])
    if not args.quick:
        from benchmarks.machine import describe

        result = {"machine": describe(), "model": TREE, "steps": steps, "calibrated": [text for _, text in done]}
        result |= {"layouts": rows}
        RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        draw(rows, PICTURE)
    print(
        f"{datetime.datetime.now():%H:%M}: {sum(abs(row['error']) <= LIMIT for row in rows)} of {len(rows)} within 20 %"
    )
    return int(any(abs(row["error"]) > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
