"""apex and Transformer Engine are used where they are, and never needed."""

from __future__ import annotations

import dataclasses
import re
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from megatron_nlg.config.schema import KernelSettings, Parallel
from megatron_nlg.model import kernels
from megatron_nlg.model.attention import NaiveAttention, ScaledDotProductAttention
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
    assert list(chosen.active.values())[:3] == ["torch SDPA", "torch", "torch fused AdamW"]


def test_apex_and_transformer_engine_where_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    adam, norm, attention = object(), object(), object()
    stand_in(monkeypatch, apex__normalization={}, apex__optimizers={"FusedAdam": adam}, transformer_engine__pytorch={})
    real = kernels._load
    fakes = {"FusedLayerNorm": norm, "TEDotProductAttention": attention}
    monkeypatch.setattr(kernels, "_load", lambda module, name: fakes.get(name) or real(module, name))
    chosen = kernels.choose(on_cuda(), Parallel())
    assert (chosen.layer_norm, chosen.core_attention, chosen.fused_adam) == (norm, attention, adam)
    sources = [chosen.active[operation] for operation in ("attention", "layer norm", "optimizer")]
    assert sources == ["Transformer Engine", "apex", "apex FusedAdam"]
    naive = kernels.choose(on_cuda(), Parallel(), KernelSettings(attention="naive"))
    assert (naive.core_attention, naive.active["attention"]) == (NaiveAttention, "naive")
    plain = kernels.choose(on_cuda(), Parallel(), KernelSettings(libraries=False))
    assert (plain.layer_norm, plain.core_attention, plain.fused_adam) == (LayerNorm, ScaledDotProductAttention, None)


def test_fp32_products_are_rounded_to_tf32_only_where_asked_for() -> None:
    for tf32 in (True, False):
        kernels.choose(on_cuda(), Parallel(), KernelSettings(tf32=tf32))
        assert torch.backends.cuda.matmul.allow_tf32 is tf32


def test_the_cpu_uses_torch_even_where_extras_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, apex__normalization={}, apex__optimizers={"FusedAdam": object()})
    assert kernels.choose(dataclasses.replace(on_cuda(), torch=torch.device("cpu")), Parallel()).fused_adam is None


def test_element_wise_parts_are_compiled_on_gpus_with_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, triton={})
    monkeypatch.setattr(kernels.shutil, "which", lambda name: "/usr/bin/cc" if name == "cc" else None)
    monkeypatch.setattr(kernels.Path, "exists", lambda self: True)
    chosen = kernels.choose(on_cuda(), Parallel())
    assert chosen.compiled
    assert chosen.cross_entropy is not None
    assert chosen.active["activation, loss"] == "torch.compile"
    cut = kernels.choose(on_cuda(), Parallel(tensor=2))
    assert cut.compiled
    assert cut.cross_entropy is None


@pytest.mark.parametrize(
    ("parallel", "settings", "compiler", "reason"),
    [
        (Parallel(), KernelSettings(compiled=False), True, "kernels.compiled"),
        (Parallel(zero_stage=3), KernelSettings(), True, "ZeRO-3"),
        (Parallel(), KernelSettings(), False, "no C compiler|there is none"),
    ],
)
def test_why_nothing_is_compiled_is_said(
    monkeypatch: pytest.MonkeyPatch, parallel: Parallel, settings: KernelSettings, compiler: bool, reason: str
) -> None:
    stand_in(monkeypatch, triton={})
    monkeypatch.setattr(kernels.shutil, "which", lambda name: "/usr/bin/cc" if compiler else None)
    chosen = kernels.choose(on_cuda(), parallel, settings)
    assert not chosen.compiled
    assert chosen.cross_entropy is None
    assert re.search(reason, chosen.active["activation, loss"])
    function = len
    assert chosen.compile(function) is function  # type: ignore[comparison-overlap]
