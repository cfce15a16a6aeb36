"""The plan as one self-contained HTML page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from data_prep.report.html import document, section, table
from data_prep.report.text import count_text, duration_text
from launch import plots
from launch.outlook import Outlook, outlook_lines
from launch.ranking import HEADS, MISSES, SHOWN, name, own_lines, rows_of, same
from megatron_nlg.planning.layouts import reasons
from megatron_nlg.planning.parameters import total_parameters
from megatron_nlg.planning.step import StepModel

if TYPE_CHECKING:
    from megatron_nlg.config.cluster import Cluster
    from megatron_nlg.planning.prediction import Prediction
    from megatron_nlg.planning.search import Search


def plan_page(title: str, cluster: Cluster, found: Prediction, about: Outlook, others: Search | None) -> str:
    """Everything about one layout, and the search that it comes from, if any."""
    parts = [
        _layouts(others) if others else "",
        _parts(found, others),
        _pipeline(found, cluster),
        _memory(found),
        _run(about),
        _scaling(about),
        _left_out(others) if others else "",
        _assumptions(cluster, found),
    ]
    return document(escape(title), _header(title, cluster, found, about), parts)


def _header(title: str, cluster: Cluster, found: Prediction, about: Outlook) -> str:
    run = about.forecast
    facts = [
        (f"{found.step_seconds:.2f} s", "a step"),
        (f"{found.model_tflops:.1f}", "TFLOP/s a GPU, the model's own"),
        (f"{found.tflops:.1f}", "TFLOP/s with recomputation"),
        (f"{found.peak_memory_gib:.1f} GiB", f"of {found.memory_gib:g}" if found.memory_gib else "of a rank"),
        (f"{run.days:.1f}", "days"),
        (count_text(run.gpu_hours), "GPU-hours"),
    ]
    if about.price is not None:
        facts.append((f"{run.gpu_hours * about.price:,.0f}", "cost"))
    if about.megawatt_hours is not None:
        facts.append((f"{about.megawatt_hours:,.0f} MWh", "energy"))
    cards = "".join(f'<div class="fact"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in facts)
    badge = '<span class="badge good">fits</span>' if found.fits else '<span class="badge bad">does not fit</span>'
    lead = (
        f"{count_text(total_parameters(found.config.model))} parameters on {found.layout.world_size:,} ranks of "
        f"{cluster.name}: {name(found.config)}, {found.layout.data} replicas; stack {found.stack}"
    )
    return f'<h1>{escape(title)}{badge}</h1>\n<p class="lead">{escape(lead)}</p>\n<div class="facts">{cards}</div>'


def _layouts(found: Search) -> str:
    numbers = tuple(head if head in ("recompute", "SP") else f"#{head}" for head in HEADS)
    note = f"{found.fitting} legal layouts fit; the fastest are simulated. " + " ".join(
        escape(line[0].upper() + line[1:]) + "." for line in (own_lines(found, found.own) if found.own else ())
    )
    return section("Layouts", note, f'<div class="scroll">{table(numbers, rows_of(found))}</div>')


def _parts(found: Prediction, others: Search | None) -> str:
    rows = [(_label(row), row) for row in others.ranked[:SHOWN]] if others else [(_label(found), found)]
    if others and others.own and not any(same(others.own, row) for _, row in rows):
        rows.append(("own: " + _label(others.own), others.own))
    note = "Seconds of a step on the stage that ends last. The bubble is waiting for other stages."
    return section("Where the time goes", note, plots.parts_chart(rows))


def _label(found: Prediction) -> str:
    parallel = found.config.parallel
    chunks = f" × {parallel.interleave} chunks" if parallel.interleave > 1 else ""
    sequence = ", SP" if parallel.sequence else ""
    zero = f", ZeRO-{parallel.zero_stage}" if parallel.zero_stage > 1 else ""
    return (
        f"TP {parallel.tensor} × PP {parallel.pipeline}{chunks}, micro {found.config.batch.micro}, "
        f"{parallel.recompute}{sequence}{zero}"
    )


def _pipeline(found: Prediction, cluster: Cluster) -> str:
    model = StepModel(found.config, cluster, found.layout.world_size, found.stack)
    simulated = model.step(found.micro_batches).simulated
    note = (
        f"{found.micro_batches} micro-batches through {found.layout.pipeline} stages; stages compute "
        f"{float(simulated.busy[0]):.1%} of the time until the last backward pass."
    )
    return section("The pipeline", note, plots.pipeline_chart(simulated))


def _memory(found: Prediction) -> str:
    note = (
        f"Of a rank at its peak; stage {found.fullest} needs most. The first stages hold more micro-batches in flight."
    )
    return section("Memory by stage", note, plots.memory_chart(found))


def _run(about: Outlook) -> str:
    rows = [
        (str(number), f"{level.sequences:,}", f"{level.steps:,}", f"{level.step_seconds:.2f}", duration_text(spent))
        for number, level in enumerate(about.forecast.levels, start=1)
        for spent in [level.steps * level.step_seconds]
    ]
    few = rows if len(rows) <= SHOWN else [*rows[:5], ("…",) * 5, *rows[-3:]]
    text = "<br>".join(escape(" ".join(line.split())) for line in outlook_lines(about) if " scaling " not in line)
    return section("The run", text, table(("#level", "#sequences", "#steps", "#s a step", "#time"), few))


def _scaling(about: Outlook) -> str:
    if not about.strong and not about.weak:
        return ""
    note = (
        "The same layout with other numbers of replicas. Strong: the same global batch; weak: the same for a replica."
    )
    return section("Scaling", note, plots.scaling_chart(about.strong, about.weak))


def _left_out(found: Search) -> str:
    rows = [(key, f"{count:,}", reason) for key, count, reason in reasons(found.illegal)]
    misses = [
        (name(row.config), f"{row.estimated_seconds:.1f}", found.excess(row)) for row in found.misses[: 3 * MISSES]
    ]
    note = f"{sum(found.illegal.values()):,} layouts are not legal, {len(found.unfit)} need too much memory."
    return section(
        "What is left out, and why",
        note,
        table(("not legal for", "#layouts", "such as"), rows),
        table(("does not fit", "#about s", "because"), misses) if misses else "",
    )


def _assumptions(cluster: Cluster, found: Prediction) -> str:
    compute = cluster.compute
    rows = [
        (level.name, f"{level.bandwidth_gbs:g}", f"{level.efficiency:.0%}", f"{level.latency_us:g}")
        for level in cluster.levels
    ]
    note = ""
    if compute and cluster.peak_tflops:
        note = (
            f"{escape(cluster.accelerator or 'accelerators')}: {cluster.peak_tflops:g} TFLOP/s at "
            f"{compute.gemm_efficiency:.1%} in large matrix products, {compute.memory_gbs:g} GB/s at "
            f"{compute.memory_efficiency:.1%} elsewhere; {found.config.precision}. Ranks in their natural order."
        )
    return section("Assumptions", note, table(("link of each", "#GB/s", "#reached", "#µs"), rows))
