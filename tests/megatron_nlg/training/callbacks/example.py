"""A run and its rows for the callbacks' tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from megatron_nlg.parallel.layout import Layout
from megatron_nlg.training.callbacks.base import Run, StepMetrics, ValidationRow
from tests.tiny import tiny


def run_in(folder: Path, *overrides: str, **fields: Any) -> Run:
    given: dict[str, Any] = {
        "config": tiny(*overrides),
        "folder": folder,
        "is_main": True,
        "layout": Layout(pipeline=2, data=2, tensor=2),
        "start_step": 0,
        "total_steps": 20,
        "device_name": "cpu",
    }
    return Run(**{**given, **fields})


def metrics(step: int, **fields: Any) -> StepMetrics:
    given: dict[str, Any] = {
        "step": step,
        "samples": step * 16,
        "tokens": step * 512,
        "loss": 5.0 - step / 10,
        "grad_norm": 1.25,
        "lr": 1e-3,
        "batch_size": 16,
        "step_seconds": 0.5,
        "tokens_per_second": 1024.0,
        "model_tflops_per_gpu": 0.001,
        "mfu": None,
    }
    return StepMetrics(**{**given, **fields})


def validation(step: int) -> list[ValidationRow]:
    return [
        ValidationRow(step, "docs", 4.0 - step / 10, 50.0),
        ValidationRow(step, "code", 3.0 - step / 10, 20.0),
    ]
