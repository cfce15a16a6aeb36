"""What a run config amounts to on a number of ranks: as a plain tree (`describe`) and as text to read (`render`).

Part of the entry point `command.py`: like it, it looks up to the layers above, and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import batch_quantum, data_parallel_size, ramp_levels
from megatron_nlg.data.clock import TokenClock
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.memory import rank_memory
from megatron_nlg.planning.parameters import (
    model_components,
    rank_parameters,
    stage_components,
    total_parameters,
)
from megatron_nlg.training.schedule import BatchSchedule

MANY_STAGES = 10
"""With more stages than this the text shows the first and the last ones; the tree has all."""


def describe(config: RunConfig, ranks: int) -> dict[str, Any]:
    """Everything `check` reports, ready for JSON: counts in parameters, samples, tokens, steps; memory in bytes.

    Raises ConfigError when the config does not fit `ranks` ranks.
    """
    data = data_parallel_size(config, ranks)
    layout = Layout.of(config.parallel, ranks)
    batches = BatchSchedule(config, data)
    return {
        "config": config.model_dump(mode="json", by_alias=True),
        "resolved": {
            "padded_vocab_size": config.model.padded_vocab_size,
            "ffn_hidden_size": config.model.ffn_size,
            "init_std": config.model.weight_std,
            "decay_tokens": config.schedule.decay_tokens or config.schedule.train_tokens,
        },
        "parameters": {
            "total": total_parameters(config.model),
            "components": {name: part.total for name, part in model_components(config.model).items()},
        },
        "layout": {
            "ranks": ranks,
            "tensor": layout.tensor,
            "pipeline": layout.pipeline,
            "interleave": layout.interleave,
            "context": layout.context,
            "data": layout.data,
            "tensor_groups": layout.tensor_groups(),
            "context_groups": layout.context_groups(),
            "data_groups": layout.data_groups(),
            "pipeline_groups": layout.pipeline_groups(),
        },
        "stages": [
            _stage(config, layout, batches.micro_batches(batches.train_samples), p) for p in range(layout.pipeline)
        ],
        "batch": {
            "levels": batches.levels,
            "levels_before_rounding": ramp_levels(config),
            "multiple_of": batch_quantum(config, data),
            "micro_batches": [level // (config.batch.micro * data) for level in batches.levels],
        },
        "training": {
            "samples": batches.train_samples,
            "tokens": TokenClock.of(config).tokens(batches.train_samples),
            "steps": batches.total_steps,
        },
    }


def _stage(config: RunConfig, layout: Layout, micro_batches: int, pipe: int) -> dict[str, Any]:
    """One pipeline stage: its ranks, its layers (a list for each chunk), its size, and the memory of each rank."""
    width = layout.copies * layout.tensor
    memory = rank_memory(config, layout.data, micro_batches, pipe)
    return {
        "stage": pipe,
        "ranks": list(range(pipe * width, (pipe + 1) * width)),
        "layers": [list(chunk) for chunk in layout.layers(config.model.num_layers, pipe)],
        "parameters": sum(part.total for part in stage_components(config, pipe).values()),
        "parameters_per_rank": rank_parameters(config, pipe),
        "memory_per_rank": {
            "weights": memory.weights,
            "gradients": memory.gradients,
            "optimizer": memory.optimizer,
            "activations": memory.activations,
            "total": memory.total,
        },
    }


def render(config: RunConfig, report: dict[str, Any]) -> str:
    """The resolved config as YAML, then the report as its comments: the whole is a run config again."""
    lines = [
        *_model_lines(config, report),
        "",
        *_layout_lines(report),
        "",
        *_stage_lines(report),
        "",
        *_batch_lines(report),
    ]
    return to_yaml(config) + "\n" + "\n".join(f"# {line}".rstrip() for line in lines)


def _model_lines(config: RunConfig, report: dict[str, Any]) -> Iterator[str]:
    resolved, total = report["resolved"], report["parameters"]["total"]
    yield f"Model: {total:,} parameters ({_short(total)})"
    for name, count in report["parameters"]["components"].items():
        yield f"  {name.replace('_', ' '):<20}{count:>19,}  {count / total:6.1%}"
    tied = "tied to the output layer" if config.model.tie_embeddings else "not tied"
    yield f"  vocabulary {config.model.vocab_size} padded to {resolved['padded_vocab_size']}, {tied}"
    yield f"  MLP {resolved['ffn_hidden_size']} wide; initial weights N(0, {resolved['init_std']:.3g}²)"


def _layout_lines(report: dict[str, Any]) -> Iterator[str]:
    layout = report["layout"]
    chunks = f" × {layout['interleave']} chunks" if layout["interleave"] > 1 else ""
    context = f" × context {layout['context']}" if layout["context"] > 1 else ""
    yield (
        f"Layout: tensor {layout['tensor']} × pipeline {layout['pipeline']}{chunks}{context} × data {layout['data']} "
        f"= {_many(layout['ranks'], 'rank')}"
    )
    for axis in ("tensor", *(["context"] if context else []), "data", "pipeline"):
        groups = layout[f"{axis}_groups"]
        if len(groups[0]) == 1:
            yield f"  {axis + ' groups':<16} none: every rank is on its own"
        else:
            shown = [abbreviate(group) for group in groups]
            if len(shown) > 4:
                shown = [*shown[:2], "…", shown[-1]]
            yield f"  {axis + ' groups':<16} {len(groups)} of {len(groups[0])}: {' | '.join(shown)}"


def _stage_lines(report: dict[str, Any]) -> Iterator[str]:
    stages = report["stages"]
    kinds = ("weights", "gradients", "optimizer", "activations", "total")
    rows = [["stage", "ranks", "layers", "parameters", "a rank", *kinds]]
    for stage in stages:
        memory = [_bytes(stage["memory_per_rank"][kind]) for kind in kinds]
        layers = ", ".join(abbreviate(chunk) for chunk in stage["layers"])
        counts = [_short(stage["parameters"]), _short(stage["parameters_per_rank"])]
        rows.append([str(stage["stage"]), abbreviate(stage["ranks"]), layers, *counts, *memory])
    if len(stages) > MANY_STAGES:
        rows = [*rows[:5], ["…"] * len(rows[0]), *rows[-3:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    yield "Stages, and the memory of each of their ranks (without CUDA context and communication buffers):"
    for row in rows:
        yield "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    totals = [stage["memory_per_rank"]["total"] for stage in stages]
    yield f"  most on stage {totals.index(max(totals))}: {_bytes(max(totals))}; least: {_bytes(min(totals))}"


def _batch_lines(report: dict[str, Any]) -> Iterator[str]:
    batch, training = report["batch"], report["training"]
    levels, wanted = batch["levels"], batch["levels_before_rounding"]
    yield f"Batch: {levels[-1]} sequences, {batch['micro_batches'][-1]} micro-batches a replica"
    if len(levels) > 1:
        shown = [str(level) for level in levels]
        if len(shown) > 12:
            shown = [*shown[:6], "…", *shown[-3:]]
        yield f"  ramp in {len(levels)} levels: {' '.join(shown)}"
        rounded = sum(a != b for a, b in zip(levels, wanted, strict=True))
        if rounded:
            yield f"  {_many(rounded, 'level')} rounded up to multiples of {batch['multiple_of']}"
    if not training["samples"]:
        yield "Training: as long as data.classification.train says, which is not here"
        return
    yield (
        f"Training: {_many(training['steps'], 'step')}, {_many(training['samples'], 'sample')}, "
        f"{_many(training['tokens'], 'token')}"
    )


def abbreviate(numbers: Sequence[int]) -> str:
    """Evenly spaced numbers in a few characters: 0-7, or 0, 8, … 272 (35)."""
    if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}-{numbers[-1]}"
    if len(numbers) > 4:
        return f"{numbers[0]}, {numbers[1]}, … {numbers[-1]} ({len(numbers)})"
    return ", ".join(map(str, numbers))


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _short(count: float) -> str:
    """A count in thousands, millions, billions."""
    for unit in ("", " K", " M", " B"):
        if count < 1000 or unit == " B":
            return f"{count:.4g}{unit}" if unit else f"{count:.0f}"
        count /= 1000
    raise AssertionError


def _bytes(count: float) -> str:
    """Bytes in KiB, MiB or GiB."""
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024 or unit == "GiB":
            return f"{count:.1f} {unit}"
    raise AssertionError
