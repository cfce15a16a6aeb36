"""Are losses on the GPU those of the CPU? The same short trainings on both, in fp32 and bf16.

    python -m benchmarks.equality_gpu [--steps 20] [--out FILE]
    python -m benchmarks.equality_gpu --toy      a smaller model; the CPU against itself where there is no GPU

Initial weights and batches are functions of the seed and equal bit for bit; masks are uneven. Limits are relative
differences of losses. fp32: 1e-4, because both sum the same products in another order, which twenty updates of Adam
amplify; TF32 is off. bf16: 5e-3, also against fp32, because activations are rounded to 8 bits, and at other places (a
fused or compiled kernel rounds once where plain ones round in between). Gradient norms are shown beside them.
With several GPUs `megatron-nlg verify` then compares the layouts on all of them. Writes
benchmarks/results/equality_gpu.json; exits 1 when a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe
from benchmarks.peers import context_of
from megatron_nlg.config.base import apply_overrides, build
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.model.kernels import importable
from megatron_nlg.parallel.supervisor import quiet_libraries
from megatron_nlg.training.engine import Engine
from megatron_nlg.training.verification.compare import relative
from megatron_nlg.training.verification.measure import synthetic_batch

RESULT = Path("benchmarks/results/equality_gpu.json")
LIMITS = {"fp32": 1e-4, "bf16": 5e-3}
LLAMA = (
    "model.activation=swiglu model.normalization=rmsnorm model.bias=false model.position_embedding=rotary "
    "model.tie_embeddings=false model.num_query_groups=2"
)
MODELS = {"GPT": "", "Llama's shape": LLAMA}
ON_THE_GPU = {
    "default": "",
    "not compiled": "kernels.compiled=false",
    "PyTorch's kernels only": "kernels.libraries=false",
    "recompute": "parallel.recompute=full",
    "ZeRO-2": "parallel.zero_stage=2",
    "ZeRO-3": "parallel.zero_stage=3",
}
Curves = dict[str, dict[str, list[float]]]
"""Name of a case -> losses and gradient norms, step by step."""


def config_of(toy: bool, *overrides: str) -> RunConfig:
    tree = {
        "model": {
            "num_layers": 2 if toy else 4,
            "hidden_size": 64 if toy else 256,
            "num_attention_heads": 4,
            "sequence_length": 32 if toy else 128,
            "vocab_size": 250 if toy else 2000,
        },
        "batch": {"micro": 2, "global": 4 if toy else 8},
        "optimizer": {"lr": 3e-4},
        "schedule": {"train_tokens": 10**9},
    }
    return build(RunConfig, apply_overrides(tree, overrides), "benchmark")


def cases(on_the_gpu: bool) -> dict[str, str]:
    """Name -> overrides: on the CPU each model in each precision, on the GPU each variant of them."""
    extras = any(map(importable, ("transformer_engine.pytorch", "apex.normalization")))
    left_out = set() if torch.cuda.is_available() else {"not compiled", "recompute", "ZeRO-3"}
    left_out |= set() if extras else {"PyTorch's kernels only"}
    ways = {way: settings for way, settings in ON_THE_GPU.items() if way not in left_out}
    ways = ways if on_the_gpu else {"default": ""}
    return {
        f"{model}, {precision}, {way}": f"precision={precision} {shape} {settings}"
        for model, shape in MODELS.items()
        for precision in LIMITS
        for way, settings in ways.items()
    }


def curves(toy: bool, steps: int, on_the_gpu: bool) -> Curves:
    """Train all cases on this process's device."""
    torch.set_float32_matmul_precision("highest")
    found: Curves = {}
    for name, overrides in cases(on_the_gpu).items():
        config = config_of(toy, *overrides.split())
        context = context_of(config)
        engine = Engine(config, context)
        results = []
        for step in range(1, steps + 1):
            batch = list(synthetic_batch(config, context, step, config.batch.global_))
            results.append(engine.train_step(batch, config.optimizer.lr, step))
        found[name] = {
            "loss": [float(result.loss) for result in results],
            "grad_norm": [float(result.grad_norm) for result in results],
        }
        engine.destroy()
    return found


def in_own_process(toy: bool, steps: int, on_the_gpu: bool) -> Curves:
    """The same where the GPU is seen, or hidden."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "curves.json")
        command = [sys.executable, "-m", "benchmarks.equality_gpu", "--steps", str(steps), "--out", str(out)]
        command += ["--toy"] * toy + ["--curves", "gpu" if on_the_gpu else "cpu"]
        hidden = {} if on_the_gpu else {"CUDA_VISIBLE_DEVICES": ""}
        subprocess.run(command, env=os.environ | hidden, check=True)
        found: Curves = json.loads(out.read_text())
        return found


def compare(cpu: Curves, gpu: Curves) -> list[dict[str, Any]]:
    """A row a case of the GPU, against the CPU's default of that model in its precision, and in fp32."""
    rows = []
    for name, got in gpu.items():
        model, precision, _ = name.split(", ")
        limit, row = LIMITS[precision], {"name": name, "limit": LIMITS[precision]}
        for label, reference in {"cpu": precision, "cpu_fp32": "fp32"}.items():
            want = cpu[f"{model}, {reference}, default"]
            row |= {f"{key}_to_{label}": relative(got[key], want[key]) for key in ("loss", "grad_norm")}
        row["equal"] = all(row[f"loss_to_{label}"] <= limit for label in ("cpu", "cpu_fp32"))  # NaN is not
        rows.append(row | got)
    return rows


def layouts(steps: int, gpus: int) -> int:
    """`megatron-nlg verify` over all GPUs; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(to_yaml(config_of(False, "precision=fp32", "batch.global=64")))
        command = [sys.executable, "-m", "megatron_nlg.cli", "verify", str(path), "--nproc", str(gpus)]
        return subprocess.run([*command, "--steps", str(steps), "--out", f"{folder}/verify"], check=False).returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--toy", action="store_true", help="fewer steps of a smaller model, on any device")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--curves", choices=("cpu", "gpu"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    quiet_libraries()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    steps = min(3, args.steps) if args.toy else args.steps
    if args.curves:
        args.out.write_text(json.dumps(curves(args.toy, steps, args.curves == "gpu")))
        return 0
    gpus = torch.cuda.device_count()
    if not gpus and not args.toy:
        print("equality_gpu: no GPU here; --toy tries the script itself on the CPU", file=sys.stderr)
        return 2
    if gpus:
        cpu, gpu = (in_own_process(args.toy, steps, on_the_gpu) for on_the_gpu in (False, True))
    else:
        cpu, gpu = (curves(args.toy, steps, on_the_gpu) for on_the_gpu in (False, True))
    rows = compare(cpu, gpu)
    for row in rows:
        differences = "  ".join(f"{key} {row[key]:.1e}" for key in row if "_to_" in key)
        print(f"{row['name']:42} {differences}  limit {row['limit']:g}  {'equal' if row['equal'] else 'NOT EQUAL'}")
    result: dict[str, Any] = {"machine": describe(), "steps": steps, "rows": rows, "cpu": cpu}
    code = layouts(steps, gpus) if gpus > 1 and not args.toy else 0
    if gpus > 1:
        result["verify_exit_code"] = code
    out = args.out or (None if args.toy else RESULT)
    if out:
        out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return int(code != 0 or not all(row["equal"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
