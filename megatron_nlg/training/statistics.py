"""Gradient-noise scale and per-layer statistics of chosen steps, in `statistics.jsonl` of the run folder.

After the last backward pass of a step and before DeepSpeed reduces gradients, every rank holds its own replica's
gradient. Its norm there, and that of the mean over replicas, are the two batch sizes that McCandlish et al. 2018
("An Empirical Model of Large-Batch Training", appendix A.1) estimate the noise scale from:

    |G|² ≈ (B |g_B|² − b |g_b|²) / (B − b)        S ≈ (|g_b|² − |g_B|²) / (1/b − 1/B)        B_simple = S / |G|²

with g_b a replica's gradient over b sequences and g_B the whole batch's over B. Single values of both are noisy, so
that the ratio is taken of their means over the last `WINDOW` rows.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from megatron_nlg.config.schema import Log
from megatron_nlg.parallel.context import ParallelContext
from megatron_nlg.training.callbacks.metrics import STATISTICS as FILE
from megatron_nlg.training.callbacks.metrics import keep_until, read_rows
from megatron_nlg.training.engine import Engine, gradient

WINDOW = 20
"""Rows that the noise scale is a mean over."""


@dataclass
class Sums:
    """What a rank adds up in a step: sums of squares, so that ranks' parts add."""

    cut: dict[str, bool] = field(default_factory=dict)
    """Whether a parameter is cut over tensor ranks."""
    weights: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    """Of the mean over replicas."""
    own_gradients: dict[str, float] = field(default_factory=dict)
    """Of this rank's replica."""
    activations: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Layer -> sum of squares of its output, and number of elements."""


class Statistics:
    """Writes a row every log.layer_statistics or log.noise_scale steps. Every method is collective."""

    def __init__(self, settings: Log, engine: Engine, context: ParallelContext, folder: Path, start_step: int):
        self.settings, self.engine, self.context = settings, engine, context
        self.path = folder / FILE
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        if context.is_main and (settings.noise_scale or settings.layer_statistics):
            keep_until(self.path, start_step)  # steps that are taken again write their rows again
            for row in read_rows(self.path):
                if "noise" in row:
                    self._recent.append((row["noise"], row["signal"]))

    @contextmanager
    def step(self, step: int, batch_size: int) -> Iterator[None]:
        """Around a training step over `batch_size` sequences."""
        layers, noise = (_due(step, every) for every in (self.settings.layer_statistics, self.settings.noise_scale))
        if not layers and not noise:
            yield
            return
        sums = Sums()
        with self._measured(sums, layers):
            yield
        gathered: list[Any] | None = [None] * self.context.layout.world_size if self.context.is_main else None
        dist.gather_object(sums, gathered, dst=0)
        if gathered is None:
            return
        row: dict[str, Any] = {"step": step}
        if noise:
            row |= self._noise_scale(gathered, batch_size)
        if layers:
            row["layers"] = layer_rows(gathered, self.context)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @contextmanager
    def _measured(self, sums: Sums, layers: bool) -> Iterator[None]:
        """Hooks on the layers' outputs, and on the moment between backward pass and reduction."""
        core: Any = self.engine.chunks[0].config
        finalize = core.finalize_model_grads_func

        def measure(*args: Any, **options: Any) -> None:
            finalize(*args, **options)
            self._measure(sums)

        core.finalize_model_grads_func = measure
        hooks = [hook for chunk in self.engine.chunks for hook in _watch(chunk, sums)] if layers else []
        try:
            yield
        finally:
            core.finalize_model_grads_func = finalize
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _measure(self, sums: Sums) -> None:
        copies = self.context.layout.copies
        for item in self.engine.parameters():
            own = gradient(item.parameter).float()
            mean = own
            if copies > 1:
                mean = own.clone()
                dist.all_reduce(mean, group=self.context.data_group)
                mean /= copies
            sums.cut[item.name] = item.cut is not None
            sums.own_gradients[item.name] = _square(own)
            sums.gradients[item.name] = _square(mean)
            sums.weights[item.name] = _square(item.parameter)

    def _noise_scale(self, gathered: Sequence[Sums], batch: int) -> dict[str, float | None]:
        """B_simple in sequences, and the two estimates of this step that it comes from."""
        replicas = self.context.layout.data
        own = [sum(once(gathered, self.context, "own_gradients", data).values()) for data in range(replicas)]
        small, large = batch / replicas, float(batch)
        small_square, large_square = sum(own) / replicas, sum(once(gathered, self.context, "gradients").values())
        noise, signal = noise_and_signal(small, small_square, large, large_square)
        self._recent.append((noise, signal))
        total_noise, total_signal = (sum(values) for values in zip(*self._recent, strict=True))
        scale = total_noise / total_signal if total_signal > 0 else None  # not known yet: too few rows
        return {"noise_scale": scale, "noise": noise, "signal": signal}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _square(tensor: Tensor) -> float:
    return float(tensor.detach().float().pow(2).sum())


def _watch(chunk: nn.Module, sums: Sums) -> Iterator[Any]:
    """Hooks that add up each layer's output, over all micro-batches."""
    layers: Any = chunk.decoder.layers  # type: ignore[union-attr]

    def add(layer: Any, inputs: Any, output: Any) -> None:
        out = output[0] if isinstance(output, tuple) else output
        number = layer.layer_number - 1  # Megatron-core counts from 1, over the whole model
        total, count = sums.activations.get(number, (0.0, 0))
        sums.activations[number] = (total + _square(out), count + out.numel())

    for layer in layers:
        yield layer.register_forward_hook(add)


def noise_and_signal(small: float, small_square: float, large: float, large_square: float) -> tuple[float, float]:
    """S (the trace of the per-sequence covariance) and |G|² from squared gradient norms at two batch sizes."""
    signal = (large * large_square - small * small_square) / (large - small)
    noise = (small_square - large_square) / (1 / small - 1 / large)
    return noise, signal


def once(gathered: Sequence[Sums], context: ParallelContext, kind: str, data: int = 0) -> dict[str, float]:
    """Sum of squares of each parameter of a replica, every part counted once.

    What tensor ranks hold whole is taken from the first of them, a tied embedding from its first stage.
    """
    found: dict[str, dict[int, float]] = {}
    for rank, sums in enumerate(gathered):
        at = context.layout.coordinates(rank)
        if at.data != data or at.context:
            continue
        for name, value in getattr(sums, kind).items():
            part = at.tensor if sums.cut[name] else 0
            found.setdefault(name, {}).setdefault(part, value)
    return {name: sum(parts.values()) for name, parts in found.items()}


def layer_rows(gathered: Sequence[Sums], context: ParallelContext) -> dict[str, dict[str, float]]:
    """Layer (or embedding, final norm, output) -> weight_norm, grad_norm, and activation_rms of a layer's output."""
    rows: dict[str, dict[str, float]] = {}
    for key, kind in (("weight_norm", "weights"), ("grad_norm", "gradients")):
        for name, square in once(gathered, context, kind).items():
            row = rows.setdefault(layer_of(name), {})
            row[key] = row.get(key, 0.0) + square
    rows = {layer: {key: square**0.5 for key, square in row.items()} for layer, row in rows.items()}
    totals: dict[int, tuple[float, int]] = {}
    for sums in gathered:
        for number, (total, count) in sums.activations.items():
            before = totals.get(number, (0.0, 0))
            totals[number] = (before[0] + total, before[1] + count)
    for number, (total, count) in totals.items():
        rows[str(number)]["activation_rms"] = (total / count) ** 0.5
    return dict(sorted(rows.items(), key=_place))


def layer_of(name: str) -> str:
    """The layer's number of a global parameter name, or what stands before its first dot outside of layers."""
    parts = name.split(".")
    return parts[2] if name.startswith("decoder.layers.") else "final norm" if parts[0] == "decoder" else parts[0]


def _place(row: tuple[str, Mapping[str, float]]) -> tuple[int, int]:
    """Embedding, layers, then what follows them."""
    name = row[0]
    return (1, int(name)) if name.isdigit() else (0 if name == "embedding" else 2, 0)
