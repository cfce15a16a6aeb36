"""Predicted against measured: seconds of a step and memory of ranks, where the cluster's description is given."""

from __future__ import annotations

from html import escape
from statistics import median

from data_prep.report.html import section, table
from megatron_nlg.config.cluster import Cluster
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.footprint import Footprint
from megatron_nlg.planning.prediction import Prediction, predict
from megatron_nlg.report.record import Record

MIB = 2**20
WARM_UP = 2
"""First steps after a start, which compile and allocate."""


def foretold(record: Record, cluster: Cluster) -> str:
    """A section of the page. Raises ConfigError or InputError when the run can't be predicted on this cluster."""
    layout = record.layout
    if layout is None:
        return ""
    found = predict(record.config, cluster, layout.world_size, cluster.gpus_per_node or layout.world_size)
    rows = [*_time_rows(record, found), *_memory_rows(record, found, layout, on_gpu=bool(cluster.gpus_per_node))]
    note = (
        f"By `megatron-nlg plan` for {escape(cluster.name)}; steps of the full batch, their median, and each stage's "
        "largest rank."
    )
    if not cluster.gpus_per_node:
        note += (
            " On the CPU, memory is the resident set less what the process held before the model was made: some 100 "
            "MiB of libraries that training touches come on top, and freed memory that the C library keeps."
        )
    return section(
        "Predicted and measured", note, table(("", "#predicted", "#measured", "#predicted / measured"), rows)
    )


def _time_rows(record: Record, found: Prediction) -> list[tuple[str, ...]]:
    starts = [0, *record.resumes]
    seconds = [
        row["step_seconds"]
        for row in record.steps
        if row["batch_size"] == record.config.batch.global_
        and row["step_seconds"]
        and not any(start < row["step"] <= start + WARM_UP for start in starts)
    ]
    if not seconds:
        return [("seconds of a step", f"{found.step_seconds:.4g}", "no step of a full batch", "")]
    measured = median(seconds)
    tflops = found.model_tflops * found.step_seconds / measured
    return [
        _row("seconds of a step", found.step_seconds, measured),
        _row("TFLOP/s of a rank, the model's own", found.model_tflops, tflops),
    ]


def _row(what: str, predicted: float, measured: float) -> tuple[str, ...]:
    return what, f"{predicted:.4g}", f"{measured:.4g}", f"{predicted / measured:.3f}"


def _memory_rows(record: Record, found: Prediction, layout: Layout, on_gpu: bool) -> list[tuple[str, ...]]:
    """A row a stage, of the last event on record that is of this layout."""
    events = [event for event in record.events if event["event"] == "peak memory"]
    if not events or len(events[-1].get("mib", ())) != layout.world_size:
        return []
    peaks, before = events[-1]["mib"], events[-1].get("before_mib", [0] * layout.world_size)
    rows = []
    for pipe, parts in enumerate(found.stages):
        ranks = [rank for rank in range(layout.world_size) if layout.coordinates(rank).pipe == pipe]
        measured = max(peaks[rank] - before[rank] for rank in ranks)
        rows.append(_row(f"MiB, stage {pipe}", _tensors(parts, on_gpu) / MIB, max(measured, 1)))
    return rows


def _tensors(parts: Footprint, on_gpu: bool) -> float:
    """What is measured: on a GPU the allocator's tensors, without its own losses and the runtime."""
    return parts.total - (parts.fragmentation + parts.runtime if on_gpu else 0)
