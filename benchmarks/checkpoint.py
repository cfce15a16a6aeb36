"""What a checkpoint costs a training run, and how near its writing comes to the disk's own rate.

    python -m benchmarks.checkpoint [--quick] [--nproc 2] [--work DIR]

Ranks train a model whose state is more than 2 GB and save while training goes on. Lost time is the stall (training
stands still while the state is copied to memory) plus what the steps during the write take longer than others. The
disk's own rate is the same number of bytes, written by the same ranks in 16 MiB writes with an fsync at the end, before
each save, in the same folder. Writes benchmarks/results/checkpoint.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import describe

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.parallel.supervisor import Terminal

RESULT = Path("benchmarks/results/checkpoint.json")
BLOCK = bytes(range(256)) * (1 << 16)
FULL = {"num_layers": 14, "hidden_size": 1024, "num_attention_heads": 16, "sequence_length": 256, "vocab_size": 8192}
QUICK = {"num_layers": 2, "hidden_size": 256, "num_attention_heads": 4, "sequence_length": 64, "vocab_size": 1024}
SAVES = 2
"""Of each kind; the first one of a run also makes the memory that later ones use again."""


def configuration(quick: bool, ranks: int) -> RunConfig:
    """The run."""
    from megatron_nlg.config.base import build
    from megatron_nlg.config.schema import RunConfig

    tree = {
        "model": QUICK if quick else FULL,
        "batch": {"micro": 2, "global": 2 * ranks},
        "precision": "fp32",
        "optimizer": {"lr": 1e-4},
        "schedule": {"train_tokens": 1_000_000},
        "checkpoint": {"keep_last": 1},
    }
    return build(RunConfig, tree, "benchmark")


class Bench:
    """One rank."""

    def __init__(self, config: RunConfig, folder: Path):
        from megatron_nlg.parallel.context import ParallelContext
        from megatron_nlg.training.checkpoint.store import Checkpoints
        from megatron_nlg.training.engine import Engine

        self.config, self.folder = config, folder
        self.context = ParallelContext.create(config)
        self.engine = Engine(config, self.context)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint, self.context)
        self.step = 0

    def train(self) -> float:
        """Seconds of one optimizer step."""
        import torch

        model = self.config.model
        tokens = torch.randint(0, model.vocab_size, (self.config.batch.micro, model.sequence_length + 1))
        batch = {
            "tokens": tokens[:, :-1].contiguous(),
            "labels": tokens[:, 1:].contiguous(),
            "loss_mask": torch.ones(self.config.batch.micro, model.sequence_length),
        }
        self.step += 1
        start = time.perf_counter()
        self.engine.train_step([batch], 1e-4, self.step)
        return time.perf_counter() - start

    def save(self, training: bool, plain_step: float) -> dict[str, Any]:
        """Save, while training or while idle; what it cost."""
        from megatron_nlg.training.checkpoint.format import Progress, model_identity

        self.checkpoints.save(self.engine, Progress(self.step, self.step, identity=model_identity(self.config)))
        steps: list[float] = []
        done = None
        while training and not self.context.any_rank(done is not None)[0]:
            steps.append(self.train())
            done = done or self.checkpoints.poll()
        done = done or self.checkpoints.wait()
        assert done is not None
        lost = done.stall_seconds + sum(steps) - plain_step * len(steps)
        return {"training": training, **done.cost(), "steps_while_writing": len(steps), "lost_seconds": lost}

    def disk(self, size: int) -> float:
        """Seconds that this rank's share of `size` bytes takes the disk, all ranks at once."""
        path = self.folder / f"disk_{self.context.rank}"
        left = size // self.context.layout.world_size
        self.context.barrier()
        start = time.perf_counter()
        with path.open("wb", buffering=0) as file:
            while left > 0:
                left -= file.write(BLOCK[:left])
            os.fsync(file.fileno())
        self.context.barrier()
        seconds = time.perf_counter() - start
        path.unlink()
        return seconds


def rank(config: RunConfig, folder: Path, terminal: Terminal) -> int:
    """Measure as one rank; rank 0 writes the figures."""
    bench = Bench(config, folder)
    bench.train()
    rows = []
    for training in (True, False) * SAVES:
        plain = [bench.train() for _ in range(2)]
        size = sum(piece.whole.numel() * 4 for piece in all_pieces(bench))
        disk = bench.disk(size)
        row = bench.save(training, statistics.median(plain))
        row |= {"step_seconds": statistics.median(plain), "disk_bytes_per_second": size / disk}
        row["share_of_disk_rate"] = row["bytes_per_second"] / row["disk_bytes_per_second"]
        row["stall_share_of_100_steps"] = row["checkpoint_stall_seconds"] / row["step_seconds"] / 100
        row["lost_share_of_100_steps"] = row["lost_seconds"] / row["step_seconds"] / 100
        rows.append(row)
        if bench.context.is_main:
            print({key: round(value, 4) for key, value in row.items()}, file=terminal.err, flush=True)
    if bench.context.is_main:
        (folder / "rows.json").write_text(json.dumps(rows))
    bench.checkpoints.close()
    bench.context.barrier()
    bench.context.destroy()
    return 0


def all_pieces(bench: Bench) -> list[Any]:
    """One piece a stored tensor: without pipeline and tensor ranks, a rank holds all of them."""
    from megatron_nlg.training.checkpoint.format import EVERYTHING
    from megatron_nlg.training.checkpoint.state import weights_of

    return weights_of(bench.engine.chunks, bench.context) * len(EVERYTHING)


def main() -> int:
    """Run, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model; nothing is written to results/")
    parser.add_argument("--nproc", type=int, default=2)
    parser.add_argument("--work", type=Path, default=None, help="folder on the disk to measure")
    args = parser.parse_args()
    from megatron_nlg.parallel import supervisor

    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    import megatron_nlg.training.engine  # noqa: F401 - imported once, before the ranks fork

    machine, config = describe(), configuration(args.quick, args.nproc)
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=args.work) as work:
        (Path(work) / "logs").mkdir()
        code = supervisor.supervise(partial(rank, config, Path(work)), Path(work) / "logs", args.nproc)
        if code:
            return code
        rows = json.loads((Path(work) / "rows.json").read_text())
    training, idle = ([row for row in rows if row["training"] is kind] for kind in (True, False))
    summary = {
        "state_bytes": rows[0]["bytes"],
        "stall_share_of_100_steps": statistics.median(row["stall_share_of_100_steps"] for row in training),
        "lost_share_of_100_steps": statistics.median(row["lost_share_of_100_steps"] for row in training),
        "share_of_disk_rate": statistics.median(row["share_of_disk_rate"] for row in idle),
        "share_of_disk_rate_while_training": statistics.median(row["share_of_disk_rate"] for row in training),
    }
    print(json.dumps(summary, indent=1))
    if not args.quick:
        result = {"machine": machine, "ranks": args.nproc, "model": FULL, "summary": summary, "rows": rows}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
