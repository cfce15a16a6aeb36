"""What the planner's search found, as a table to read and as a tree for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from megatron_nlg.planning.flops import step_flops
from megatron_nlg.planning.layouts import reasons
from megatron_nlg.planning.prediction import Prediction, as_tree
from megatron_nlg.planning.search import Candidate, Search
from megatron_nlg.planning.step import as_dict

SHOWN = 12
"""Layouts in the table."""
MISSES = 3
"""Layouts that nearly fit."""
HEADS = ("", "TP", "PP", "chunks", "DP", "micro", "recompute", "SP", "ZeRO", "step s", "TFLOP/s", "bubble", "GiB")


def search_lines(found: Search, where: str) -> Iterator[str]:
    """The table, the config's own layout against the best, and what is not in the table and why."""
    yield (
        f"{found.fitting} layouts fit {where}"
        + (f", {len(found.unfit)} need more than {found.memory_gib:g} GiB" if found.memory_gib else "")
        + f", {sum(found.illegal.values())} are not legal"
    )
    yield from _table([HEADS, *rows_of(found)])
    if found.own:
        yield from own_lines(found, found.own)
    for row in found.misses[:MISSES]:
        yield f"does not fit: {name(row.config)}, about {row.estimated_seconds:.1f} s: {found.excess(row)}"
    for key, count, reason in reasons(found.illegal):
        yield f"not legal: {count} for {key}, such as: {reason}"


def rows_of(found: Search) -> list[tuple[str, ...]]:
    """Cells of the best layouts, and of the config's own where it is not among them."""
    rows = [_row(number, row) for number, row in enumerate(found.ranked[:SHOWN], start=1)]
    if found.own and not any(same(found.own, row) for row in found.ranked[:SHOWN]):
        rows.append(("own", *_row(0, found.own)[1:]))
    return rows


def own_lines(found: Search, own: Prediction) -> Iterator[str]:
    """How far the config's own layout is from the best, and which parts of the step make it so."""
    if not own.fits:
        yield f"the config's own layout does not fit: {own.peak_memory_gib:.1f} GiB of {own.memory_gib:g}"
    if not found.ranked:
        return
    best = found.ranked[0]
    if same(own, best):
        yield "the config's own layout is the best"
        return
    parts = ", ".join(differences(own, best))
    ratio = own.step_seconds / best.step_seconds
    yield f"the config's own layout takes {ratio:.3g} times the best one's step" + (f": {parts}" if parts else "")


def differences(own: Prediction, best: Prediction) -> list[str]:
    """Parts of the step that differ by 1 % of it, the largest first."""
    here, there = as_dict(own.breakdown), as_dict(best.breakdown)
    parts = sorted(((here[part] - there[part], part) for part in here), key=lambda item: -abs(item[0]))
    return [f"{part} {seconds:+.2f} s" for seconds, part in parts if abs(seconds) > 0.01 * best.step_seconds]


def same(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions are of one layout."""
    return one.config.parallel == other.config.parallel and one.config.batch.micro == other.config.batch.micro


def search_tree(found: Search, ranks: int) -> dict[str, Any]:
    """Everything, ready for JSON."""
    illegal = [{"key": key, "layouts": count, "such_as": reason} for key, count, reason in reasons(found.illegal)]
    return {
        "memory_gib": found.memory_gib,
        "fitting": found.fitting,
        "layouts": [
            as_tree(row) | {"model_tflops_per_gpu": round(row.model_tflops, 2), "overrides": overrides(row)}
            for row in found.ranked
        ],
        "own": as_tree(found.own) if found.own else None,
        "estimated": [_estimated(row, ranks) for row in found.estimated],
        "does_not_fit": [_estimated(row, ranks) | {"reason": found.excess(row)} for row in found.unfit],
        "not_legal": illegal,
    }


def _estimated(row: Candidate, ranks: int) -> dict[str, Any]:
    flops = step_flops(row.config.model, row.config.batch.global_, row.config.parallel.recompute)
    return {
        "layout": name(row.config),
        "estimated_seconds": round(row.estimated_seconds, 3),
        "tflops_per_gpu": round(flops / ranks / row.estimated_seconds / 1e12, 2),
        "peak_memory_gib": round(row.peak_memory_gib, 2),
    }


def overrides(row: Prediction) -> list[str]:
    """The settings that make a config this layout, as a user types them."""
    parallel = row.config.parallel
    keys = ("tensor", "pipeline", "interleave", "sequence", "zero_stage", "recompute")
    pairs = [(f"parallel.{key}", getattr(parallel, key)) for key in keys]
    return [f"{key}={str(value).lower()}" for key, value in (*pairs, ("batch.micro", row.config.batch.micro))]


def name(config: Any) -> str:
    """A layout in a line."""
    parallel = config.parallel
    chunks = f" × {parallel.interleave} chunks" if parallel.interleave > 1 else ""
    sequence = ", sequence parallel" if parallel.sequence else ""
    zero = f", ZeRO-{parallel.zero_stage}" if parallel.zero_stage > 1 else ""
    return (
        f"tensor {parallel.tensor} × pipeline {parallel.pipeline}{chunks}, micro-batch {config.batch.micro}, "
        f"recompute {parallel.recompute}{sequence}{zero}"
    )


def _row(number: int, row: Prediction) -> tuple[str, ...]:
    parallel, layout = row.config.parallel, row.layout
    cells = (layout.tensor, layout.pipeline, layout.interleave, layout.data, row.config.batch.micro)
    return (
        str(number),
        *map(str, cells),
        parallel.recompute,
        "yes" if parallel.sequence else "no",
        str(parallel.zero_stage),
        f"{row.step_seconds:.2f}",
        f"{row.tflops:.1f}",
        f"{row.breakdown.bubble / row.step_seconds:.1%}",
        f"{row.peak_memory_gib:.1f}",
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
