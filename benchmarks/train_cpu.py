"""Our training step on one CPU process against a bare loop, nanoGPT's architecture and transformers' GPT-2.

    python -m benchmarks.train_cpu [--rounds 15] [--vocab 512 50304]

Every peer lives in a process of its own, as its users run it, and they take steps in turn, so that whatever else the
machine does hits them alike: a ratio is the median over rounds of the peer's seconds / our seconds. Our process keeps
freed memory (parallel/device.py), and so does the bare loop around the same model; the others have the allocator as it
comes. Memory is the peak resident set, less what the process held before its model was built. Needs `transformers`
(the `bench` extra). Writes benchmarks/results/train_cpu.json.
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


class Peer:
    """A process that takes a step when it is told to."""

    def __init__(self, name: str, vocab: int):
        command = [sys.executable, "-m", "benchmarks.train_cpu", "--peer", name, "--vocab", str(vocab)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.seconds: list[float] = []
        self.mib = 0.0

    def step(self, number: int) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        seconds, self.mib = map(float, self.process.stdout.readline().split())
        self.seconds.append(seconds)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def be_peer(name: str, vocab: int) -> int:
    """The process of a peer: a line in is a step's number, a line out its seconds and the peak memory so far in MiB."""
    from benchmarks.peers import PEERS
    from megatron_nlg.parallel.supervisor import quiet_libraries

    quiet_libraries()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print
    config = config_of(vocab)
    if name.startswith("transformers"):
        import transformers.models.gpt2.modeling_gpt2  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = PEERS[name](config)
    for line in sys.stdin:
        tokens, labels = batch(config, int(line))
        start = time.perf_counter()
        step(tokens, labels)
        seconds = time.perf_counter() - start
        print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, file=out)
    return 0


def measure(vocab: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Take all peers through the same batches in turn; the first two rounds are thrown away."""
    from benchmarks.peers import PEERS

    peers = {name: Peer(name, vocab) for name in PEERS}
    names = list(peers)
    for number in range(rounds + 2):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            peers[name].step(number)
    rows: dict[str, dict[str, Any]] = {}
    mine = peers["ours"].seconds[2:]
    for name, peer in peers.items():
        ratios = [theirs / ours for theirs, ours in zip(peer.seconds[2:], mine, strict=True)]
        rows[name] = {
            "median_ms": round(statistics.median(peer.seconds[2:]) * 1e3, 1),
            "our_speed_over_its": round(statistics.median(ratios), 3),
            "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]],
            "peak_mib": round(peer.mib),
        }
        peer.close()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--vocab", type=int, nargs="+", default=[512, 50304])
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return be_peer(args.peer, args.vocab[0])
    from benchmarks.machine import describe

    result: dict[str, Any] = {"machine": describe(), "shape": config_of(512).model.model_dump(), "batch": BATCH}
    result["threads"] = os.environ.get("OMP_NUM_THREADS", "one a core")
    for vocab in args.vocab:
        result[f"vocabulary {vocab}"] = rows = measure(vocab, args.rounds)
        for name, row in rows.items():
            print(f"{vocab:6} {name:30} {row}")
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
