"""apex and Transformer Engine are used where they are, and never needed."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from megatron_nlg.config.schema import Parallel
from megatron_nlg.model import kernels
from megatron_nlg.model.attention import ScaledDotProductAttention
from megatron_nlg.model.normalization import LayerNorm
from megatron_nlg.parallel.device import select_device


def stand_in(monkeypatch: pytest.MonkeyPatch, **modules: dict[str, Any]) -> None:
    """Importable modules with the given attributes; dots in names are written as double underscores."""
    for name, attributes in modules.items():
        parts = name.split("__")
        for depth in range(1, len(parts) + 1):
            dotted = ".".join(parts[:depth])
            module = sys.modules.get(dotted) or ModuleType(dotted)
            module.__spec__ = importlib_spec(dotted)
            module.__path__ = []
            monkeypatch.setitem(sys.modules, dotted, module)
        vars(module).update(attributes)


def importlib_spec(name: str) -> Any:
    import importlib.machinery

    return importlib.machinery.ModuleSpec(name, None)


def on_cuda() -> Any:
    return dataclasses.replace(select_device(), torch=torch.device("cuda", 0))


def test_torch_kernels_without_extras() -> None:
    chosen = kernels.choose(on_cuda(), Parallel())
    assert (chosen.layer_norm, chosen.core_attention, chosen.fused_adam) == (LayerNorm, ScaledDotProductAttention, None)
    assert set(chosen.active.values()) == {"torch SDPA", "torch", "torch fused AdamW"}


def test_apex_and_transformer_engine_where_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    adam, norm, attention = object(), object(), object()
    stand_in(monkeypatch, apex__normalization={}, apex__optimizers={"FusedAdam": adam}, transformer_engine__pytorch={})
    real = kernels._load
    fakes = {"FusedLayerNorm": norm, "TEDotProductAttention": attention}
    monkeypatch.setattr(kernels, "_load", lambda module, name: fakes.get(name) or real(module, name))
    chosen = kernels.choose(on_cuda(), Parallel())
    assert (chosen.layer_norm, chosen.core_attention, chosen.fused_adam) == (norm, attention, adam)
    assert chosen.active == {"attention": "Transformer Engine", "layer norm": "apex", "optimizer": "apex FusedAdam"}


def test_the_cpu_uses_torch_even_where_extras_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, apex__normalization={}, apex__optimizers={"FusedAdam": object()})
    assert kernels.choose(dataclasses.replace(on_cuda(), torch=torch.device("cpu")), Parallel()).fused_adam is None
