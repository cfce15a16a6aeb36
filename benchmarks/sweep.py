"""The stability sweeps of docs/studies.md, on Tiny Shakespeare's characters.

    python -m benchmarks.sweep CORPUS/blend.yaml [--grid size|beta2|quick] [--out DIR] [--parallel 2]

size: 3 sizes × 3 initial deviations × 7 rates. beta2: 2 sizes × 3 beta2 × 2 deviations × 4 rates. quick: seconds, and
no result is kept. The corpus is configs/corpora/tiny_shakespeare_char.yaml's. Killed and started again it goes on.
Writes benchmarks/results/sweep.json or sweep_beta2.json; pages and pictures are in --out (runs/sweep_GRID).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.machine import describe
from megatron_nlg.cli import main as megatron_nlg

RESULTS = {"size": "sweep.json", "beta2": "sweep_beta2.json"}
GRIDS = {
    "size": (
        "model.hidden_size:model.num_layers=48:2,96:4,192:6",
        "model.init_std=0.01,0.04,0.16",
        "optimizer.lr=1e-3,3e-3,1e-2,3e-2,1e-1,3e-1,1",
    ),
    "beta2": (
        "model.hidden_size:model.num_layers=48:2,96:4",
        "optimizer.beta2=0.9,0.95,0.999",
        "model.init_std=0.02,0.1",
        "optimizer.lr=1e-3,1e-2,1e-1,1",
    ),
    "quick": ("model.hidden_size:model.num_layers=48:2,96:4", "model.init_std=0.04", "optimizer.lr=1e-3,1"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blend", help="blend.yaml of the corpus")
    parser.add_argument("--grid", choices=list(GRIDS), default="size")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parallel", default="2")
    args = parser.parse_args()
    out = args.out or Path("runs", f"sweep_{args.grid}")
    grid = [word for axis in GRIDS[args.grid] for word in ("--grid", axis)]
    words = ["configs/runs/stability.yaml", f"data.blend={args.blend}", *grid, "--parallel", args.parallel]
    code = megatron_nlg(["sweep", *words, "--out", str(out)])
    if code == 0 and args.grid in RESULTS:
        found = json.loads((out / "results.json").read_text())
        del found["losses"], found["overrides"]
        path = Path("benchmarks/results", RESULTS[args.grid])
        path.write_text(json.dumps({"machine": describe(), **found}, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
