"""The first losses of one config in many layouts, after a kill, and after a reshard: how far are they apart?

    python -m benchmarks.equality [CORPUS/blend.yaml] [--steps 20] [--work DIR]

Every row is a real `megatron-nlg train` of configs/runs/demo.yaml on 1 to 8 local ranks. Differences are relative to
1 × 1 × 1 in fp32, over losses and over gradient norms. Writes benchmarks/results/equality.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import describe

CONFIG = Path("configs/runs/demo.yaml")
RESULT = Path("benchmarks/results/equality.json")
FP32_LIMIT, BF16_LIMIT = 1e-5, 5e-3
Layout = tuple[str, int, str]
LAYOUTS: list[Layout] = [  # name, ranks, settings
    ("1×1×1", 1, ""),
    ("TP2", 2, "parallel.tensor=2"),
    ("TP4", 4, "parallel.tensor=4"),
    ("TP4 SP", 4, "parallel.tensor=4 parallel.sequence=true"),
    ("PP2", 2, "parallel.pipeline=2"),
    ("PP4", 4, "parallel.pipeline=4"),
    ("PP2 interleaved", 2, "parallel.pipeline=2 parallel.interleave=2"),
    ("DP2", 2, ""),
    ("DP4", 4, ""),
    ("DP2 ZeRO-2", 2, "parallel.zero_stage=2"),
    ("DP2 ZeRO-3", 2, "parallel.zero_stage=3"),
    ("TP2 PP2", 4, "parallel.tensor=2 parallel.pipeline=2"),
    ("TP2 PP2 recompute", 4, "parallel.tensor=2 parallel.pipeline=2 parallel.recompute=full"),
    ("2×2×2 SP", 8, "parallel.tensor=2 parallel.pipeline=2 parallel.sequence=true"),
    ("2×2×2 SP interleaved", 8, "parallel.tensor=2 parallel.pipeline=2 parallel.interleave=2 parallel.sequence=true"),
]
BF16 = ("1×1×1", "DP2", "PP2", "DP2 ZeRO-3", "2×2×2 SP")


class Bench:
    """Runs trainings into one folder and compares their curves."""

    def __init__(self, blend: Path, steps: int, work: Path):
        from data_prep.blend import read_blend

        self.work, self.steps = work, steps
        tokens = 16 * 128 * steps
        self.settings = [
            f"data.blend={blend}",
            f"model.vocab_size={read_blend(blend).tokenizer.vocab_size}",
            "batch.ramp=null",
            f"schedule.train_tokens={tokens}",
            f"schedule.warmup_tokens={tokens // 4}",
            "optimizer.lr=1e-3",
            "checkpoint.interval=5",
            "evaluation={interval: 0, batches: 0}",
            "parallel={tensor: 1, pipeline: 1, sequence: false}",
        ]

    def command(self, folder: Path, ranks: int, settings: str) -> list[str]:
        """The training command of a layout."""
        train = ["-m", "megatron_nlg.cli", "train", str(CONFIG), "--out", str(folder), "--nproc", str(ranks)]
        return [sys.executable, *train, *self.settings, *settings.split()]

    def train(self, name: str, ranks: int, settings: str) -> list[dict[str, Any]]:
        """Train to the end; rows of metrics.jsonl."""
        folder = self.work / name.replace(" ", "_").replace("×", "x")
        done = subprocess.run(self.command(folder, ranks, settings), check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: exit code {done.returncode}: {done.stderr[-1000:]}")
        return rows(folder)

    def kill_after(self, folder: Path, ranks: int, settings: str, step: int) -> None:
        """Train, and kill -9 a rank once `step` steps are written."""
        process = subprocess.Popen(self.command(folder, ranks, settings), stderr=subprocess.DEVNULL)
        while process.poll() is None and (not rows(folder) or rows(folder)[-1]["step"] < step):
            time.sleep(0.05)
        os.kill(psutil.Process(process.pid).children()[-1].pid, signal.SIGKILL)
        process.wait()


def prepare(folder: Path) -> Path:
    """The demo's corpus; returns its blend.yaml."""
    recipe = "configs/corpora/python_documentation.yaml"
    subprocess.run([sys.executable, "-m", "megatron_nlg.cli", "prep", "run", recipe, "--out", str(folder)], check=True)
    return folder / "blend.yaml"


def rows(folder: Path) -> list[dict[str, Any]]:
    """Whole rows of a run's metrics."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def difference(got: list[dict[str, Any]], want: list[dict[str, Any]], key: str) -> float:
    """Largest relative difference of two curves."""
    return max(abs(g[key] - w[key]) / abs(w[key]) for g, w in zip(got, want, strict=True))


def main() -> int:
    """Run all rows, print the table, write the JSON; exit 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "blend", type=Path, nargs="?", help="corpus; Python's documentation, prepared here, if not given"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--work", type=Path, default=None)
    args = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="equality-") as temporary:
        work = args.work or Path(temporary)
        bench = Bench((args.blend or prepare(work / "corpus")).resolve(), args.steps, work)
        table = measure(bench)
    for row in table:
        losses = " ".join(f"{loss:.7f}" for loss in row["losses"])
        print(f"{row['name']:34} loss {row['loss']:.1e}  norm {row['grad_norm']:.1e}  limit {row['limit']:g}  {losses}")
    RESULT.parent.mkdir(exist_ok=True)
    result = {"machine": machine, "config": str(CONFIG), "settings": bench.settings[1:], "rows": table}
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    worst = {limit: max(r["loss"] for r in table if r["limit"] == limit) for limit in {r["limit"] for r in table}}
    print("largest relative difference of a loss by limit:", {f"{k:g}": f"{v:.1e}" for k, v in worst.items()})
    return int(any(row["loss"] > row["limit"] for row in table))


def measure(bench: Bench) -> list[dict[str, Any]]:
    """All rows of the table."""
    table: list[dict[str, Any]] = []

    def add(name: str, got: list[dict[str, Any]], want: list[dict[str, Any]], limit: float) -> None:
        entry = {"name": name, "limit": limit, "losses": [row["loss"] for row in got]}
        table.append(entry | {key: difference(got, want, key) for key in ("loss", "grad_norm")})
        print(f"{name}: {table[-1]['loss']:.1e}", file=sys.stderr, flush=True)

    fp32 = {name: bench.train(name, ranks, settings) for name, ranks, settings in LAYOUTS}
    reference = fp32["1×1×1"]
    for name, got in fp32.items():
        add(name, got, reference, FP32_LIMIT)
    for name, ranks, settings in LAYOUTS:
        if name in BF16:
            add(f"{name} bf16", bench.train(f"{name} bf16", ranks, f"{settings} precision=bf16"), reference, BF16_LIMIT)
    _, ranks, settings = next(row for row in LAYOUTS if row[0] == "2×2×2 SP")
    folder = bench.work / "killed"
    bench.kill_after(folder, ranks, settings, bench.steps * 3 // 5)
    add("2×2×2 SP killed and resumed", bench.train("killed", ranks, settings), fp32["2×2×2 SP"], 0.0)
    for name, ranks_after, settings_after in LAYOUTS:
        if name in ("1×1×1", "PP2 interleaved", "DP2 ZeRO-3"):
            folder = bench.work / f"reshard_{name}".replace(" ", "_").replace("×", "x")
            bench.kill_after(folder, ranks, settings, bench.steps * 3 // 5)
            got = bench.train(f"reshard {name}", ranks_after, settings_after)
            add(f"2×2×2 SP killed, resumed as {name}", got, reference, FP32_LIMIT)
    return table


if __name__ == "__main__":
    sys.exit(main())
