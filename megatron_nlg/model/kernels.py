"""Which implementation each hot operation uses: PyTorch's, or a fused kernel where it is installed.

apex and Transformer Engine are used when they are importable and the device is a GPU; neither is ever required.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from megatron_nlg.config.schema import Parallel
from megatron_nlg.model.attention import ScaledDotProductAttention
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


def choose(device: Device, parallel: Parallel, masked: bool = False) -> Kernels:
    """Pick kernels for a device; `masked` when attention must honour a mask beyond the causal one."""
    active = {"attention": "torch SDPA", "layer norm": "torch", "optimizer": "torch fused AdamW"}
    layer_norm: Any = LayerNorm
    core_attention: Any = ScaledDotProductAttention
    fused_adam = None
    if device.torch.type == "cuda":
        if _importable("apex.normalization") and _importable("apex.optimizers"):
            layer_norm = _load("megatron.core.fusions.fused_layer_norm", "FusedLayerNorm")
            active["layer norm"] = "apex"
            if not parallel.offload_optimizer:  # its kernels update on the GPU only
                fused_adam = _load("apex.optimizers", "FusedAdam")
                active["optimizer"] = "apex FusedAdam"
        # Transformer Engine's attention, told that its mask is causal, passes over the one it is given.
        if _importable("transformer_engine.pytorch") and parallel.context == 1 and not masked:
            core_attention = _load("megatron.core.extensions.transformer_engine", "TEDotProductAttention")
            active["attention"] = "Transformer Engine"
    return Kernels(layer_norm, RMSNorm, core_attention, fused_adam, active)


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
