"""Which implementation each hot operation uses: PyTorch's, compiled, or a fused kernel where it is installed.

apex and Transformer Engine are used when they are importable and the device is a GPU, torch.compile where the device is
a GPU and a C compiler is there; none of them is ever required. The settings are `kernels` in the run config.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_nlg.config.schema import KernelSettings, Parallel
from megatron_nlg.model.attention import NaiveAttention, ScaledDotProductAttention
from megatron_nlg.model.fused import cross_entropy
from megatron_nlg.model.normalization import LayerNorm, RMSNorm
from megatron_nlg.parallel.device import Device


@dataclass(frozen=True)
class Kernels:
    """The chosen classes, each with where it comes from."""

    layer_norm: Any
    rms_norm: Any
    core_attention: Any
    fused_adam: Any | None
    """apex's fused Adam, or None for torch's own fused AdamW."""
    active: dict[str, str]
    """Operation -> source, printed once at start."""
    compiled: bool = False
    """Whether element-wise parts are compiled."""
    cross_entropy: Callable[..., Tensor] | None = None
    """The compiled loss (see fused.py), or None for Megatron-core's, which also knows a vocabulary cut over ranks."""

    def compile(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A function of tensors only as one kernel, or as it is."""
        return torch.compile(function, fullgraph=True) if self.compiled else function


def choose(device: Device, parallel: Parallel, settings: KernelSettings | None = None, masked: bool = False) -> Kernels:
    """Pick kernels for a device; `masked` when attention must honour a mask beyond the causal one."""
    settings = settings or KernelSettings()
    naive = settings.attention == "naive"
    attention = "naive" if naive else "torch SDPA"
    active = {"attention": attention, "layer norm": "torch", "optimizer": "torch fused AdamW"}
    why_not = why_not_compiled(device.torch.type, parallel, settings)
    active["activation, loss"] = f"torch, not compiled: {why_not}" if why_not else "torch.compile"
    layer_norm: Any = LayerNorm
    core_attention: Any = NaiveAttention if naive else ScaledDotProductAttention
    fused_adam = None
    if device.torch.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    if device.torch.type == "cuda" and settings.libraries:
        if importable("apex.normalization") and importable("apex.optimizers"):
            layer_norm = _load("megatron.core.fusions.fused_layer_norm", "FusedLayerNorm")
            active["layer norm"] = "apex"
            if not parallel.offload_optimizer:  # its kernels update on the GPU only
                fused_adam = _load("apex.optimizers", "FusedAdam")
                active["optimizer"] = "apex FusedAdam"
        # Transformer Engine's attention, told that its mask is causal, passes over the one it is given.
        te = importable("transformer_engine.pytorch") and parallel.context == 1
        if te and not (masked or naive):
            core_attention = _load("megatron.core.extensions.transformer_engine", "TEDotProductAttention")
            active["attention"] = "Transformer Engine"
    loss = None
    if not why_not and parallel.tensor == 1:
        loss = torch.compile(cross_entropy, fullgraph=True)
    elif not why_not:
        active["activation, loss"] = "torch.compile; the loss Megatron-core's (the vocabulary is cut over ranks)"
    return Kernels(layer_norm, RMSNorm, core_attention, fused_adam, active, not why_not, loss)


def why_not_compiled(
    device_type: str, parallel: Parallel | None = None, settings: KernelSettings | None = None
) -> str | None:
    """Why element-wise parts are not compiled on `cpu` or `cuda`, or None when they are."""
    parallel, settings = parallel or Parallel(), settings or KernelSettings()
    headers = Path(sysconfig.get_path("include"), "Python.h")
    reasons = {
        "no GPU": device_type != "cuda",
        "kernels.compiled is false": not settings.compiled,
        "ZeRO-3 swaps the memory of biases": parallel.zero_stage == 3,
        "triton is not installed": not importable("triton"),
        "triton needs a C compiler, and there is none": not any(map(shutil.which, ("cc", "gcc", "clang"))),
        "triton needs Python's headers (python3-dev), and they are not there": not headers.exists(),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def importable(module: str) -> bool:
    """Whether a module is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
