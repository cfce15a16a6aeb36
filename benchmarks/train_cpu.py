"""Our training step on one CPU process against a bare loop, nanoGPT's architecture and transformers' GPT-2.

    python -m benchmarks.train_cpu [--rounds 15] [--vocab 512 50304]

All peers live in one process and take steps in turn, so that whatever else the machine does hits them alike: a ratio is
the median over rounds of peer's seconds / our seconds. Peak memory is each one's own process. Needs the `bench` extra.
Writes benchmarks/results/train_cpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULT = Path("benchmarks/results/train_cpu.json")
BATCH = 8


def config_of(vocab: int) -> Any:
    from megatron_nlg.config.base import build
    from megatron_nlg.config.schema import RunConfig

    tree = {
        "model": {
            "num_layers": 6,
            "hidden_size": 384,
            "num_attention_heads": 6,
            "sequence_length": 256,
            "vocab_size": vocab,
            "init_std": 0.02,
        },
        "batch": {"micro": BATCH, "global": BATCH},
        "precision": "fp32",
        "optimizer": {"lr": 1e-3},
        "schedule": {"train_tokens": 10**9},
    }
    return build(RunConfig, tree, "benchmark")


def batch(config: Any, number: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(number)
    tokens = torch.randint(0, config.model.vocab_size, (BATCH, config.model.sequence_length + 1), generator=generator)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def times(vocab: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every step of every peer, taken in turn; the first two rounds are thrown away."""
    from benchmarks.peers import PEERS

    config = config_of(vocab)
    steps = {name: make(config) for name, make in PEERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(rounds + 2):
        tokens, labels = batch(config, number)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            steps[name](tokens, labels)
            seconds[name].append(time.perf_counter() - start)
    return {name: taken[2:] for name, taken in seconds.items()}


def peak_mib(vocab: int, name: str) -> float:
    """Peak resident memory of a process that takes three steps of one peer, less what it held before building it."""
    command = [sys.executable, "-m", "benchmarks.train_cpu", "--memory-of", name, "--vocab", str(vocab)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory_of(vocab: int, name: str) -> float:
    from benchmarks.peers import PEERS

    config = config_of(vocab)
    import transformers  # noqa: F401  what one imports, all have

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = PEERS[name](config)
    for number in range(3):
        step(*batch(config, number))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--vocab", type=int, nargs="+", default=[512, 50304])
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--no-memory", action="store_true")
    args = parser.parse_args()
    from benchmarks.machine import describe
    from megatron_nlg.parallel.supervisor import quiet_libraries

    quiet_libraries()
    if args.memory_of:
        print(memory_of(args.vocab[0], args.memory_of))
        return 0
    result: dict[str, Any] = {"machine": describe(), "shape": config_of(512).model.model_dump(), "batch": BATCH}
    result["threads"] = os.environ.get("OMP_NUM_THREADS", "one a core")
    for vocab in args.vocab:
        taken = times(vocab, args.rounds)
        rows = {}
        for name, seconds in taken.items():
            ratios = [theirs / mine for theirs, mine in zip(seconds, taken["ours"], strict=True)]
            rows[name] = {
                "median_ms": round(statistics.median(seconds) * 1e3, 1),
                "our_speed_over_its": round(statistics.median(ratios), 3),
                "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]],
                "peak_mib": None if args.no_memory else round(peak_mib(vocab, name)),
            }
        result[f"vocabulary {vocab}"] = rows
        for name, row in rows.items():
            print(f"{vocab:6} {name:30} {row}")
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
