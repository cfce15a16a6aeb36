"""The training step on one GPU: tokens/s, model TFLOP/s and MFU of GPT at four sizes, in bf16, ZeRO-1, one rank.

    python -m benchmarks.train_gpu [--sizes 124M 350M 1.3B 2.7B] [--steps 25] [--out FILE]
    python -m benchmarks.train_gpu --toy        a tiny model on whatever device there is, to try the script itself

Each size runs in a process of its own. Micro-batches double until memory ends; the fastest is kept, and all variants
(compiled or not, attention by cuDNN, apex and Transformer Engine off, recomputation) and nanoGPT's architecture with
autocast, plain and compiled, run at that size. Steps are timed by CUDA events on the stream, so gaps count; the timing
waits for nothing in between. Model FLOPs per token are 6·L·(4h² + 2hf) + 12·L·s·h + 6·h·V (training/throughput.py), MFU
is of 989 TFLOP/s on H100 and H200. One step is profiled for the kernels that took its time, one is watched for host
synchronisations. Results of a size replace that size's in benchmarks/results/train_gpu.json.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.machine import describe
from benchmarks.peers import compiled_nano_gpt, context_of, nano_gpt
from megatron_nlg.config.base import apply_overrides, build
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.model.kernels import importable
from megatron_nlg.parallel.supervisor import quiet_libraries
from megatron_nlg.planning.flops import model_flops_per_token
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.throughput import Throughput

RESULT = Path("benchmarks/results/train_gpu.json")
SIZES = {  # layers, hidden, heads, sequence
    "124M": (12, 768, 12, 1024),
    "350M": (24, 1024, 16, 1024),
    "1.3B": (24, 2048, 16, 2048),
    "2.7B": (32, 2560, 32, 2048),
}
TOY = (2, 64, 4, 32)
TARGETS = {"124M": ("tokens_per_second", 300_000), "1.3B": ("mfu", 0.5), "2.7B": ("mfu", 0.5)}
MOST_TOKENS = 2**17
"""No larger micro-batches are tried."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "not compiled": ("kernels.compiled=false",),
    "attention by cuDNN": ("kernels.libraries=false",),
    "PyTorch's kernels only": ("kernels.libraries=false",),
    "recompute selective": ("parallel.recompute=selective",),
    "recompute full": ("parallel.recompute=full",),
}
Run = Callable[[], None]
"""One step."""


def config_of(size: str, *overrides: str) -> RunConfig:
    layers, hidden, heads, sequence = SIZES.get(size, TOY)
    tree = {
        "model": {
            "num_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "sequence_length": sequence,
            "vocab_size": 50257 if size in SIZES else 250,
        },
        "batch": {"micro": 1, "global": 1},
        "precision": "bf16",
        "optimizer": {"lr": 1e-4},
        "schedule": {"train_tokens": 10**12},
    }
    return build(RunConfig, apply_overrides(tree, overrides), "benchmark")


def variants(cuda: bool) -> list[str]:
    """Those that differ from the default here."""
    extras = any(map(importable, ("transformer_engine.pytorch", "apex.normalization")))
    without = {"attention by cuDNN": not cuda, "PyTorch's kernels only": not extras}
    return [name for name in VARIANTS if not without.get(name)]


class Bench:
    """One size's measurements on this process's device."""

    def __init__(self, size: str, steps: int, warmup: int, most_tokens: int):
        self.size, self.steps, self.warmup, self.most_tokens = size, steps, warmup, most_tokens
        self.config = config_of(size)
        self.context = context_of(self.config)
        self.device = self.context.device.torch
        self.cuda = self.device.type == "cuda"
        self.throughput = Throughput(self.config, 1, self.context.device.name)

    def batches(self, micro: int) -> list[dict[str, Tensor]]:
        """Some random ones, on the device."""
        length = self.config.model.sequence_length
        found = []
        for number in range(4):
            generator = torch.Generator().manual_seed(number)
            tokens = torch.randint(0, self.config.model.vocab_size, (micro, length + 1), generator=generator)
            batch = {"tokens": tokens[:, :-1], "labels": tokens[:, 1:], "loss_mask": torch.ones(micro, length)}
            found.append({key: value.contiguous().to(self.device) for key, value in batch.items()})
        return found

    def step_of(self, engine: Engine, micro: int) -> Run:
        batches, taken = self.batches(micro), 0

        def step() -> None:
            nonlocal taken
            taken += 1
            engine.train_step([batches[taken % len(batches)]], 1e-4, taken)

        return step

    def time(self, step: Run, micro: int, steps: int) -> dict[str, Any] | None:
        """Figures of a step, or None when memory does not suffice."""
        try:
            for _ in range(self.warmup):
                step()
            if self.cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            taken = self.milliseconds(step, steps)
        except torch.OutOfMemoryError:
            return None
        median = statistics.median(taken)
        tokens = micro * self.config.model.sequence_length
        tflops = self.throughput.model_tflops_per_gpu(tokens, median / 1e3)
        mfu = self.throughput.mfu(tflops)
        return {
            "micro_batch": micro,
            "ms_a_step": round(median, 3),
            "quartiles_ms": [round(q, 3) for q in statistics.quantiles(taken, n=4)[::2]],
            "steps": steps,
            "tokens_per_second": round(tokens / median * 1e3),
            "model_tflops": round(tflops, 3),
            "mfu": mfu and round(mfu, 4),
            "peak_memory_gib": round(self.context.device.peak_memory_bytes() / 2**30, 2),
        }

    def milliseconds(self, step: Run, steps: int) -> list[float]:
        """From the end of one step to the end of the next, on the device's own clock."""
        if not self.cuda:
            marks = [time.perf_counter()]
            for _ in range(steps):
                step()
                marks.append(time.perf_counter())
            return [(after - before) * 1e3 for before, after in pairwise(marks)]
        events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        torch.cuda.synchronize()
        return [float(before.elapsed_time(after)) for before, after in pairwise(events)]

    @contextlib.contextmanager
    def engine(self, variant: str) -> Iterator[Engine]:
        """An engine, made when the memory of the one before it is free; its weights are drawn on the device."""
        self.release()
        torch.compiler.reset()  # shapes of the one before would make its own dynamic
        attention: AbstractContextManager[Any] = contextlib.nullcontext()
        if variant == "attention by cuDNN":
            attention = sdpa_kernel(SDPBackend.CUDNN_ATTENTION)
        with mock.patch("megatron_nlg.model.gpt.initialize", draw_weights):
            made = Engine(config_of(self.size, *VARIANTS[variant]), self.context)
        try:
            with attention:
                yield made
        finally:
            parameters = [item.parameter for item in made.parameters()]
            made.destroy()
            for parameter in parameters:  # autograd keeps the last model's: without their memory
                vars(parameter).clear()
                parameter.data, parameter.grad = torch.empty(0, device=self.device), None

    def release(self) -> None:
        """Drop what nobody holds."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def search(self) -> list[dict[str, Any]]:
        """Figures for micro-batches of 1, 2, 4, … until memory ends or more does not help."""
        rows: list[dict[str, Any]] = []
        with self.engine("default") as engine:
            micro = 1
            while micro * self.config.model.sequence_length <= self.most_tokens:
                row = self.time(self.step_of(engine, micro), micro, max(3, self.steps // 5))
                self.release()
                if row is None:
                    break
                rows.append(row)
                micro *= 2
        return rows

    def variant(self, name: str, micro: int) -> dict[str, Any]:
        """Figures of a variant at a micro-batch, or at half of it where that does not fit."""
        try:
            with self.engine(name) as engine:
                while micro:
                    step = self.step_of(engine, micro)
                    row = self.time(step, micro, self.steps)
                    if row:
                        details = self.details(engine, step) if name == "default" else {}
                        return {**row, "kernels": engine.kernels.active, **details}
                    del step
                    self.release()
                    torch.compiler.reset()
                    micro //= 2
        except RuntimeError as error:  # a kernel that this device or this shape has not got
            return {"failed": str(error).splitlines()[0]}
        return {"failed": "out of memory"}

    def details(self, engine: Engine, step: Run) -> dict[str, Any]:
        """Parameters; on GPUs the kernels that took the time of a step, and where the host waited for it."""
        found: dict[str, Any] = {"parameters": sum(item.parameter.numel() for item in engine.parameters())}
        if self.cuda:
            found |= {"host_synchronisations": synchronisations(step), "time_by_kernel": kernels_of(step)}
        return found

    def peer(self, make: Callable[[RunConfig], Any], micro: int) -> dict[str, Any]:
        """The same for a peer."""
        while micro:
            self.release()
            torch.compiler.reset()
            batches, train = self.batches(micro), make(self.config)
            turn = iter(range(10**9))

            def step(train: Any = train, batches: Any = batches, turn: Any = turn) -> None:
                batch = batches[next(turn) % len(batches)]
                train(batch["tokens"], batch["labels"])

            row = self.time(step, micro, self.steps)
            del step, train
            if row:
                return row
            micro //= 2
        return {"failed": "out of memory"}

    def measure(self) -> dict[str, Any]:
        """Everything about this size."""
        search = self.search()
        if not search:
            return {"failed": "not one sequence fits"}
        micro = max(search, key=lambda row: row["tokens_per_second"])["micro_batch"]
        rows = {name: self.variant(name, micro) for name in variants(self.cuda)}
        result: dict[str, Any] = {
            "model": self.config.model.model_dump(),
            "model_flops_per_token": model_flops_per_token(self.config.model),
            "search": search,
            "variants": rows,
        }
        peers = {"nanoGPT": nano_gpt} | ({"nanoGPT compiled": compiled_nano_gpt} if self.cuda else {})
        if self.config.model.hidden_size <= 1024:
            result["peers"] = {name: self.peer(make, micro) for name, make in peers.items()}
            ours = rows["default"].get("tokens_per_second", 0)
            for row in result["peers"].values():
                if "failed" not in row:
                    row["our_speed_over_its"] = round(ours / row["tokens_per_second"], 3)
        if self.size in TARGETS:
            key, wanted = TARGETS[self.size]
            best = max((row.get(key) or 0 for row in rows.values()), default=0)
            result["target"] = {key: wanted, "default": rows["default"].get(key), "best_variant": best}
        return result


def draw_weights(chunks: Sequence[torch.nn.Module], *_: Any) -> None:
    """Initial weights without their names' meaning: those of a run are drawn on the host, which takes minutes."""
    for chunk in chunks:
        for parameter in chunk.parameters():
            if parameter.dim() >= 2:
                torch.nn.init.normal_(parameter, std=0.02)
            else:
                torch.nn.init.ones_(parameter)


def synchronisations(step: Run) -> dict[str, int]:
    """Places where a step makes the host wait for the GPU, as file:line -> times."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "synchroniz" in str(w.message)]
    return dict(Counter(f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}" for w in waits))


def kernels_of(step: Run, count: int = 20) -> list[dict[str, Any]]:
    """The kernels that take most of a step, with milliseconds and calls."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    found = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    found.sort(key=lambda event: -event.self_device_time_total)
    return [
        {"kernel": event.key[:100], "ms": round(event.self_device_time_total / 1e3, 3), "calls": event.count}
        for event in found[:count]
    ]


def show(size: str, result: dict[str, Any]) -> None:
    for name, row in {**result.get("variants", {}), **result.get("peers", {})}.items():
        if "failed" in row:
            print(f"{size:5} {name:24} {row['failed']}", flush=True)
            continue
        mfu = f"{row['mfu']:.1%}" if row["mfu"] else "-"
        print(
            f"{size:5} {name:24} micro {row['micro_batch']:3}  {row['ms_a_step']:9.2f} ms  "
            f"{row['tokens_per_second']:9,} tokens/s  {row['model_tflops']:7.2f} TFLOP/s  MFU {mfu}  "
            f"{row['peak_memory_gib']:.1f} GiB",
            flush=True,
        )


def in_own_process(size: str, steps: int) -> dict[str, Any]:
    """A size's result; what its process died of, where it did."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "result.json")
        command = [sys.executable, "-m", "benchmarks.train_gpu", "--one", size, "--steps", str(steps)]
        done = subprocess.run([*command, "--out", str(out)], check=False)
        if done.returncode or not out.exists():
            return {"failed": f"the process ended with code {done.returncode}"}
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; exit 1 when a size could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--steps", type=int, default=25, help="timed steps, at least 20 (default: 25)")
    parser.add_argument("--toy", action="store_true", help="a tiny model, few steps, on any device")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    quiet_libraries()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if args.one:
        args.out.write_text(json.dumps(Bench(args.one, args.steps, 5, MOST_TOKENS).measure()))
        return 0
    if not args.toy and not torch.cuda.is_available():
        print("train_gpu: no GPU here; --toy tries the script itself on the CPU", file=sys.stderr)
        return 2
    sizes = ["toy"] if args.toy else args.sizes
    out = args.out or (None if args.toy else RESULT)
    result: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {"sizes": {}}
    result |= {"machine": describe(), "peak_tflops": 989, "targets": TARGETS}
    for size in sizes:
        found = Bench("toy", 3, 1, 128).measure() if args.toy else in_own_process(size, max(20, args.steps))
        show(size, found)
        result["sizes"][size] = found
        if out:
            out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return int(any("failed" in result["sizes"][size] for size in sizes))


if __name__ == "__main__":
    sys.exit(main())
