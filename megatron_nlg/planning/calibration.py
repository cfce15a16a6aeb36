"""A cluster description from measurements of one machine (`megatron_nlg/training/calibration.py`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from megatron_nlg.config.cluster import Compute
from megatron_nlg.planning.communication import Operation, share_sent
from megatron_nlg.planning.kernels import Accelerator


def describe(found: Mapping[str, Any], date: str) -> str:
    """The YAML of the machine that these measurements are of."""
    on_gpu = bool(found["gpus"])
    alone = found["alone"]
    peak, efficiency = _products(alone["gemm"], found["processors"])
    memory = max(alone["stream"], alone["memory"])
    compute: dict[str, Any] = {
        "memory_gbs": _rounded(memory / 1e9),
        "memory_efficiency": _rounded(alone["memory"] / memory),
        "gemm_efficiency": _rounded(efficiency),
        "attention_efficiency": _rounded(min(1.0, alone["attention_flops"] / (peak * efficiency))),
    }
    if on_gpu:
        compute |= {
            "processors": found["processors"],
            "fp32_tflops": _rounded(_products(alone["gemm_fp32"], found["processors"])[0] / 1e12),
        }
    else:
        compute |= {
            "kernel_us": _rounded(max(0.0, found["kernel_seconds"]) * 1e6),
            "cores": found["cores"],
            **_crowding(found),
            "wait_us": _rounded(_waiting(found["collectives"]) * 1e6),
        }
        if alone["function_seconds"]:
            compute["functions_gps"] = _rounded(1e-9 / alone["function_seconds"])
    level: dict[str, Any] = (
        _level(found["collectives"]) if found["collectives"] else {"bandwidth_gbs": 1.0, "operations": {}}
    )
    tree = {
        "name": "calibrated",
        "nodes": 1,
        "gpus_per_node": found["gpus"],
        "accelerator": alone["device"],
        "peak_tflops": _rounded(peak / 1e12),
        "memory_gib": round(found["memory_bytes"] / 2**30, 1),
        "compute": compute,
        "levels": [{"name": name, **level, "operations": dict(level["operations"])} for name in ("gpu", "node")],
    }
    return _heading(found, date) + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=118)


def _heading(found: Mapping[str, Any], date: str) -> str:
    alone = found["alone"]
    rates = ", ".join(f"{r}×{c}×{k}: {2e-9 * r * c * k / s:,.0f}" for r, c, k, s in alone["gemm"])
    lines = [
        f"{alone['device']}, {found['gpus'] or found['cores']} {'GPUs' if found['gpus'] else 'cores'}: on {date}",
        f"measured by `megatron-nlg plan --calibrate` with PyTorch {found['torch']}",
        f"at a load average of {found['load_average']:.2f}.",
        f"Matrix products (rows × columns × inner), GFLOP/s: {rates}.",
        "peak_tflops is the highest rate that was met, not a data sheet's. The node's own link was not measured.",
    ]
    for ranks in sorted({row[1] for row in found["collectives"]}):
        rows = [row for row in found["collectives"] if row[1] == ranks]
        text = ", ".join(
            f"{name} of {size >> 10} KiB {work * 1e6:,.0f}"
            + (f" (until all have it {wall * 1e6:,.0f})" if wall else "")
            for name, _, size, work, wall in rows
        )
        lines.append(f"{ranks} ranks, µs: {text}.")
    return "".join(f"# {line}\n" for line in lines)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _products(rows: Sequence[Sequence[float]], processors: int) -> tuple[float, float]:
    """Peak in FLOP/s, and the typical share of it, by the model of kernels.py."""
    peak = max(2 * r * c * k / seconds for r, c, k, seconds in rows)
    model = Accelerator(peak, Compute(memory_gbs=1.0, processors=processors, gemm_efficiency=1.0))
    shares = [model.gemm(int(r), int(c), int(k)) / seconds for r, c, k, seconds in rows]
    peak *= max(1.0, *shares)
    return peak, float(np.median(shares)) / max(1.0, *shares)


def _crowding(found: Mapping[str, Any]) -> dict[str, float]:
    """Speed of a rank where one has each core, and where four share it, against its share of one alone.

    With fewer than four measured, each doubling is taken to cost as much as those that were.
    """
    work = {ranks / found["cores"]: seconds for ranks, seconds in found["crowded"]}
    alone = min(work.values())
    speeds = {share: _rounded(alone / seconds) for share, seconds in work.items()}
    together, most = speeds[1.0], max(speeds)
    crowded = together if most == 1 else together * (speeds[most] / together) ** (2 / math.log2(most))
    return {"cores_together": together, "cores_crowded": min(together, _rounded(crowded))}


def _waiting(rows: Sequence[Sequence[Any]]) -> float:
    """Seconds that a rank sleeps in a collective for each doubling of ranks."""
    waits = [(wall - work) / math.log2(ranks) for name, ranks, _, work, wall in rows if name != "send"]
    return max(0.0, float(np.median(waits))) if waits else 0.0


def _level(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Latency and bandwidth that fit all-reduces best, outliers weighing less; other operations against them."""
    from scipy.optimize import least_squares

    def ratios(name: str, constants: Sequence[float]) -> Any:
        """Logarithms of predicted over measured seconds."""
        chosen = [row for row in rows if row[0] == name]
        return np.log([np.dot(_ring(*row[:3]), np.exp(constants)) / row[3] for row in chosen])

    start = np.log((1e-9, 1e-5))  # of a byte, and of a step
    fitted = least_squares(lambda x: ratios("all_reduce", x), start, loss="soft_l1", f_scale=0.2).x
    others = sorted({row[0] for row in rows} - {"all_reduce"})
    return {
        "bandwidth_gbs": _rounded(1e-9 / math.exp(fitted[0])),
        "latency_us": _rounded(math.exp(fitted[1]) * 1e6),
        "operations": {name: _rounded(math.exp(-float(np.median(ratios(name, fitted))))) for name in others},
    }


def _ring(operation: Operation, ranks: int, size: float) -> tuple[float, float]:
    """Bytes that a rank sends, and its steps."""
    steps = 1 if operation == "send" else (2 if operation == "all_reduce" else 1) * (ranks - 1)
    return share_sent(operation, ranks) * size, float(steps)
