"""Rates of this machine for the planner, by small measurements of what a training step is made of; about 80 s.

Started by `megatron-nlg plan --calibrate` as a process, and writes what it found as one JSON object. Ranks are forked;
the process itself never touches a GPU. On a CPU every rank has one thread, and the rates are those of a core alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from megatron_nlg.config.base import build
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.parallel.device import Device, local_device_count, select_device
from megatron_nlg.planning.layers import LAYER_KERNELS
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.verification.measure import synthetic_batch

PATIENCE = 120
"""Seconds that one measurement may take."""
REPEATS = 8
"""Of a collective; the first one warms up."""
CROWD = 64
"""Ranks, at most, that share the cores of a large node for a measurement."""
GPU_SHAPES = ((2048, 1536, 2048), (4096, 4096, 4096), (8192, 8192, 8192), (2048, 12288, 4096), (8192, 4096, 16384))
CPU_SHAPES: tuple[tuple[int, int, int], ...] = (
    (256, 256, 256),
    (512, 768, 256),
    (512, 192, 256),
    (512, 256, 64),
    (512, 1024, 256),
    (512, 256, 1024),
)
CPU_SHAPES += ((512, 4096, 256), (1024, 1024, 1024))
BYTES = {"cpu": (1 << 16, 1 << 19, 1 << 22, 1 << 25), "cuda": (1 << 16, 1 << 22, 1 << 26, 1 << 28)}
"""Sizes of buffers of collectives."""


def run_ranks(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """function(*arguments) on so many forked ranks in a process group; their answers by rank.

    Raises RuntimeError with what a rank raised, or when one has not answered in time.
    """
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(count):
            here, there = fork.Pipe(duplex=False)
            process = fork.Process(target=_rank, args=(rank, count, folder, there, function, arguments), daemon=True)
            process.start()
            there.close()
            pipes.append(here)
            processes.append(process)
        try:
            return [_answer(rank, pipe) for rank, pipe in enumerate(pipes)]
        finally:
            for process in processes:
                process.kill()
                process.join()


def _answer(rank: int, pipe: Any) -> Any:
    if not pipe.poll(PATIENCE):
        raise RuntimeError(f"rank {rank} did not answer within {PATIENCE} s")
    try:
        good, value = pipe.recv()
    except EOFError:
        raise RuntimeError(f"rank {rank} has died") from None
    if not good:
        raise RuntimeError(f"rank {rank}: {value}")
    return value


def _rank(
    rank: int, count: int, folder: str, pipe: Any, function: Callable[..., Any], arguments: Sequence[Any]
) -> None:
    """A forked rank."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "localhost"}
    try:
        device = select_device(rank, count)
        store = dist.FileStore(str(Path(folder, "store")), count)  # type: ignore[attr-defined]
        timeout = timedelta(seconds=PATIENCE)
        dist.init_process_group(device.backend, store=store, rank=rank, world_size=count, timeout=timeout)
        answer = (True, function(*arguments))
        dist.barrier()
    except Exception as error:
        answer = (False, f"{type(error).__name__}: {error}")
    pipe.send(answer)
    os._exit(0)  # what the libraries would do at the end is of no use


def seconds_of(work: Callable[[], Any], device: Device, budget: float = 0.5) -> float:
    """Of a call: median of blocks of calls of at least 2 ms, as many as fit into so many seconds.

    On a CPU by the process's own clock, which stands still while another has the core.
    """
    clock = time.perf_counter if device.torch.type == "cuda" else time.process_time
    calls, end = 1, time.perf_counter() + budget
    found: list[float] = []
    while len(found) < 5 or time.perf_counter() < end:
        _wait(device)
        start = clock()
        for _ in range(calls):
            work()
        _wait(device)
        took = clock() - start
        if took < 2e-3:
            calls *= 2
            continue
        found.append(took / calls)
    return statistics.median(found[1:])  # the first one warms up


def _wait(device: Device) -> None:
    if device.torch.type == "cuda":
        torch.cuda.synchronize()


# ---- one rank ----------------------------------------------------------------------------------------------------


def compute() -> dict[str, Any]:
    """Rates of this rank's device: products by shape, attention, kernels bound by memory and by exponentials."""
    device = select_device(int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"]))
    on_gpu = device.torch.type == "cuda"
    tokens, hidden = (8192, 4096) if on_gpu else (512, 256)
    return {
        "device": device.name,
        "gemm": gemm(device, torch.bfloat16 if on_gpu else torch.float32),
        "gemm_fp32": gemm(device, torch.float32) if on_gpu else [],
        "attention_flops": attention(device, 2048 if on_gpu else 256),
        **elementwise(device, tokens, hidden),
    }


def gemm(device: Device, dtype: torch.dtype) -> list[list[float]]:
    """[rows, columns, inner, seconds] of a linear layer's products: mean of the forward and the two backward ones.

    Layers take turns, so that weights come from where a model's do and not from the nearest cache.
    """
    out = []
    for rows, columns, inner in GPU_SHAPES if device.torch.type == "cuda" else CPU_SHAPES:
        x = torch.randn(rows, inner, device=device.torch, dtype=dtype, requires_grad=True)
        weights = [torch.randn(columns, inner, device=device.torch, dtype=dtype, requires_grad=True) for _ in range(8)]
        gradient = torch.randn(rows, columns, device=device.torch, dtype=dtype)

        def work(x: Tensor = x, weights: list[Tensor] = weights, gradient: Tensor = gradient) -> None:
            for weight in weights:
                torch.autograd.grad(F.linear(x, weight), (x, weight), gradient)

        out.append([rows, columns, inner, seconds_of(work, device) / (3 * len(weights))])
    return out


def attention(device: Device, length: int) -> float:
    """FLOP/s of causal attention's forward and backward pass, counting half of the pairs, backward as two forward."""
    batch, heads, size = 2, 4 if device.torch.type == "cpu" else 16, 64 if device.torch.type == "cpu" else 128
    dtype = torch.float32 if device.torch.type == "cpu" else torch.bfloat16
    shape = (batch, heads, length, size)
    queries, keys, values = (torch.randn(shape, device=device.torch, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(shape, device=device.torch, dtype=dtype)

    def work() -> None:
        F.scaled_dot_product_attention(queries, keys, values, is_causal=True).backward(gradient)  # type: ignore[no-untyped-call]

    return 3 * 2 * batch * heads * length**2 * size / seconds_of(work, device)


def elementwise(device: Device, tokens: int, hidden: int) -> dict[str, float]:
    """Bytes a second of norms and sums, and seconds of an element of GELU; forward and backward pass, as counted.

    Counted are what planning/layers.py counts: a norm reads and writes an element, a sum with bias and residual reads
    two and writes one, GELU with bias reads and writes one, and the backward pass is two forward ones.
    """
    element = 4 if device.torch.type == "cpu" else 2
    dtype = torch.float32 if element == 4 else torch.bfloat16

    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, device=device.torch, dtype=dtype, requires_grad=True)

    x, scale, shift, wide, bias = (
        tensor(tokens, hidden),
        tensor(hidden),
        tensor(hidden),
        tensor(tokens, 4 * hidden),
        tensor(4 * hidden),
    )
    gradient, wide_gradient = torch.randn_like(x), torch.randn_like(wide)

    def norm_and_sum() -> None:
        ((F.layer_norm(x, (hidden,), scale, shift) + shift) + x).backward(gradient)  # type: ignore[no-untyped-call]

    def gelu() -> None:
        F.gelu(wide + bias, approximate="tanh").backward(wide_gradient)  # type: ignore[no-untyped-call]

    rate = 3 * (2 + 3) * element * tokens * hidden / seconds_of(norm_and_sum, device)
    a_gelu = seconds_of(gelu, device) / (3 * wide.numel())
    stream = torch.zeros((1 << 30 if element == 2 else 1 << 26) // 4, device=device.torch)
    other = torch.ones_like(stream)
    streamed = 3 * 4 * stream.numel() / seconds_of(lambda: stream.add_(other), device)
    return {"memory": rate, "stream": streamed, "function_seconds": max(0.0, a_gelu - 2 * element / rate)}


def starts() -> float:
    """Seconds of a kernel that has next to nothing to do, in this engine: of a tiny layer, over its kernels."""
    seconds = {}
    for layers in (2, 10):
        config = tiny(layers)
        context = ParallelContext.create(config)
        engine = Engine(config, context)
        batch = list(synthetic_batch(config, context, 1, config.batch.global_, masked=False))
        seconds[layers] = seconds_of(partial(engine.repeat, batch, 1), context.device, 1.5)
        engine.destroy()
        from megatron.core import parallel_state

        parallel_state.destroy_model_parallel()
    return (seconds[10] - seconds[2]) / (8 * 3 * LAYER_KERNELS)


def tiny(layers: int) -> RunConfig:
    """A model whose kernels have nothing to do."""
    model = {"num_layers": layers, "hidden_size": 16, "num_attention_heads": 2, "sequence_length": 8, "vocab_size": 64}
    tree = {"model": model, "batch": {"micro": 1, "global": 1}, "precision": "fp32", "optimizer": {"lr": 1e-3}}
    return build(RunConfig, tree | {"schedule": {"train_tokens": 8}}, "calibration")


# ---- ranks together ----------------------------------------------------------------------------------------------


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def crowds() -> list[int]:
    """Numbers of ranks to share a node's cores: one alone, one a core, and more of them as far as is reasonable."""
    return sorted({1, cores(), *(many * cores() for many in (2, 4) if many * cores() <= CROWD)})


def crowded(budget: float = 4.0) -> float:
    """Seconds of work of two transformer layers' forward and backward pass, while all ranks compute the same."""
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, 0.0, F.gelu, batch_first=True, norm_first=True)
    layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = torch.randn(2, 256, 256)
    dist.barrier()
    return seconds_of(lambda: layers(x).sum().backward(), select_device(), budget)


def collectives() -> list[list[Any]]:
    """[operation, ranks, bytes of the whole buffer, seconds, on a CPU also seconds until all ranks have it] among all.

    A send is from each rank to the next.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    device = select_device(rank, ranks)
    out: list[list[Any]] = []
    for size in BYTES[device.torch.type]:
        # Turns over several buffers: a model's come from memory, and not from the nearest cache.
        buffers = cycle([torch.zeros(size // 4, device=device.torch) for _ in range(8)])
        part = torch.zeros(size // 4 // ranks, device=device.torch)
        calls = 1 if size >= 1 << 25 else 4
        for name in ("all_reduce", "all_gather", "reduce_scatter", "send"):
            call = partial(_call, name, buffers, part)
            out.append([name, ranks, size, *(_between_products if device.torch.type == "cpu" else _alone)(call, calls)])
    return out


def _call(name: str, buffers: Iterator[Tensor], part: Tensor) -> None:
    whole = next(buffers)
    if name == "all_reduce":
        dist.all_reduce(whole)
    elif name == "all_gather":
        dist.all_gather_into_tensor(whole, part)
    elif name == "reduce_scatter":
        dist.reduce_scatter_tensor(part, whole)
    else:
        _shift(whole, dist.get_rank(), dist.get_world_size())


def _alone(work: Callable[[], Any], calls: int) -> tuple[float, None]:
    """Seconds of a call on the slowest GPU."""
    found = []
    for _ in range(REPEATS):
        dist.barrier()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / calls)
    own = torch.tensor(statistics.median(found[1:]), device="cuda")
    dist.all_reduce(own, op=dist.ReduceOp.MAX)
    return float(own), None


def _between_products(work: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Seconds that a call takes from a rank's core, the mean of all ranks: of work, and with sleep, as if it worked.

    Between products, as a model has it: to wake up, with other things in the caches, is part of it. Ranks sleep while
    they wait for each other's bytes, and leave their core to others, if there are any.
    """
    ranks = dist.get_world_size()
    products = _some_products()
    share = min(1.0, cores() / ranks)  # of a core

    def rounds(functions: Sequence[Callable[[], Any]]) -> Tensor:
        dist.barrier()
        worked, start = time.process_time(), time.perf_counter()
        for _ in range(calls):
            for function in functions:
                function()
        return torch.tensor([time.process_time() - worked, (time.perf_counter() - start) * share]) / calls

    found = torch.stack([rounds([products, work]) - rounds([products]) for _ in range(REPEATS)][1:])
    own = found.median(dim=0).values
    dist.all_reduce(own)
    took, until_all = (max(1e-6, float(value) / ranks) for value in own)
    return took, max(took, until_all)


def _some_products() -> Callable[[], Any]:
    """About as much as lies between two collectives of a small model: a few milliseconds."""
    x, weights = torch.randn(512, 256), [torch.randn(1024, 256) for _ in range(2)]
    return lambda: [F.linear(x, weight) for weight in weights]


def _shift(message: Tensor, rank: int, ranks: int) -> None:
    """Every rank to the next."""
    received = torch.empty_like(message)
    calls = [dist.P2POp(dist.isend, message, (rank + 1) % ranks), dist.P2POp(dist.irecv, received, (rank - 1) % ranks)]
    for work in dist.batch_isend_irecv(calls):
        work.wait()


def measure() -> dict[str, Any]:
    """All of it."""
    gpus = local_device_count()
    sizes = [count for count in ((2, 4, 8) if gpus is None else (2, 4, 8, 16)) if gpus is None or count <= gpus]
    return {
        "gpus": gpus or 0,
        "cores": cores(),
        "alone": run_ranks(1, compute)[0],
        "crowded": [] if gpus else [[ranks, statistics.mean(run_ranks(ranks, crowded))] for ranks in crowds()],
        "kernel_seconds": run_ranks(1, starts)[0] if gpus is None else 0.0,
        "collectives": [row for count in sizes for row in run_ranks(count, collectives)[0]],
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory
        if gpus
        else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "processors": torch.cuda.get_device_properties(0).multi_processor_count if gpus else 1,
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }


def main() -> int:
    """Measure, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.write_text(json.dumps(measure()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
