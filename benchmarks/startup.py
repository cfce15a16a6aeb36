"""How long from `megatron-nlg train` to the first step's row in metrics.jsonl, files cached.

    python -m benchmarks.startup [--ranks 8] [--repeats 5]

Real jobs of configs/runs/demo.yaml's model on local ranks; the first start, which warms the page cache and builds the
sample indices, is not counted. Writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe
from tests.megatron_nlg.data.corpus import write_corpus

RESULT = Path("benchmarks/results/startup.json")
TARGET_SECONDS = 12.0


def first_step(folder: Path, ranks: int, blend: Path, index: Path) -> float:
    """Seconds until the first row; the job is left to end by itself."""
    from data_prep.blend import read_blend

    settings = [
        f"data.blend={blend}",
        f"data.index_cache={index}",
        f"model.vocab_size={read_blend(blend).tokenizer.vocab_size}",
        "batch.ramp=null",
        "schedule={train_tokens: 4096, warmup_tokens: 0}",
        "evaluation={interval: 0, batches: 0}",
    ]
    command = [sys.executable, "-m", "megatron_nlg.cli", "train", "configs/runs/demo.yaml", "--out", str(folder)]
    start = time.perf_counter()
    job = subprocess.Popen([*command, "--nproc", str(ranks), *settings], stderr=subprocess.PIPE, text=True)
    metrics = folder / "metrics.jsonl"
    seconds = 0.0
    while job.poll() is None:
        if not seconds and metrics.exists() and metrics.stat().st_size:
            seconds = time.perf_counter() - start
        time.sleep(0.01)
    if job.returncode:
        sys.exit(job.stderr.read() if job.stderr else "the job failed")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="startup-") as temporary:
        work = Path(temporary)
        blend = write_corpus(work / "corpus")
        taken = [first_step(work / str(n), args.ranks, blend, work / "index") for n in range(args.repeats + 1)][1:]
    median = statistics.median(taken)
    print(f"{args.ranks} ranks: {median:.1f} s to the first step (median of {len(taken)}; target {TARGET_SECONDS:g} s)")
    result = {
        "machine": machine,
        "ranks": args.ranks,
        "seconds": [round(s, 2) for s in taken],
        "median": round(median, 2),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return int(median > TARGET_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
