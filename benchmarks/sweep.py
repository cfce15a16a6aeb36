"""The stability sweep of docs/studies.md: 3 sizes × 3 initial deviations × 7 rates on Tiny Shakespeare's characters.

    python -m benchmarks.sweep CORPUS/blend.yaml [--quick] [--out runs/sweep] [--parallel 2]

The corpus is configs/corpora/tiny_shakespeare_char.yaml's. --quick: two sizes, one deviation, two rates, in seconds.
Killed and started again it goes on. Writes benchmarks/results/sweep.json (not with --quick); the pages and pictures are
in --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.machine import describe
from megatron_nlg.cli import main as megatron_nlg

RESULT = Path("benchmarks/results/sweep.json")
GRID = (
    "model.hidden_size:model.num_layers=48:2,96:4,192:6",
    "model.init_std=0.01,0.04,0.16",
    "optimizer.lr=1e-3,3e-3,1e-2,3e-2,1e-1,3e-1,1",
)
QUICK = ("model.hidden_size:model.num_layers=48:2,96:4", "model.init_std=0.04", "optimizer.lr=1e-3,1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blend", help="blend.yaml of the corpus")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
    parser.add_argument("--parallel", default="2")
    args = parser.parse_args()
    grid = [word for axis in (QUICK if args.quick else GRID) for word in ("--grid", axis)]
    words = ["configs/runs/stability.yaml", f"data.blend={args.blend}", *grid, "--parallel", args.parallel]
    code = megatron_nlg(["sweep", *words, "--out", str(args.out)])
    if code == 0 and not args.quick:
        found = json.loads((args.out / "results.json").read_text())
        del found["losses"], found["overrides"]
        RESULT.write_text(json.dumps({"machine": describe(), **found}, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
