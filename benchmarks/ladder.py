"""The speed ladder, `megatron-nlg bench ladder`, with its figures kept as JSON beside the other benchmarks'.

    python -m benchmarks.ladder --smaller --rounds 2 --steps 14 --warmup 2 --data ../shared/data     on a CPU
    python -m benchmarks.ladder data.blend=CORPUS/blend.yaml batch.micro=16 batch.global=32          on a GPU

All arguments but --result and --work are the command's. Run folders, report and pictures go to --work; killed and
started again it goes on. Writes benchmarks/results/ladder_cpu.json or ladder_gpu.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.machine import describe
from megatron_nlg.cli import main as megatron_nlg

RESULTS = Path("benchmarks/results")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/ladder"))
    args, words = parser.parse_known_args()
    code = megatron_nlg(["bench", "ladder", *words, "--out", str(args.work)])
    if code == 0:
        found = json.loads((args.work / "ladder.json").read_text())
        for rung in found["rungs"]:
            rung["losses"] = [loss and round(loss, 5) for loss in rung.get("losses", [])]
        path = args.result or RESULTS / f"ladder_{'cpu' if found['gpus'] is None else 'gpu'}.json"
        path.write_text(json.dumps({"machine": describe(), **found}, indent=1, ensure_ascii=False) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
