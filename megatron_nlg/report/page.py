"""The page: sections of a run, top to bottom, in one HTML file without outside assets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from data_prep.report.flow import flow_diagram, stages_of
from data_prep.report.html import COLORS, document, section, table
from data_prep.report.text import bytes_text, count_text, duration_text, time_text
from megatron_nlg.config.cluster import Cluster
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import Stage
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.planning.parameters import total_parameters
from megatron_nlg.report.charts import Panel, Series, chart
from megatron_nlg.report.diagrams import layout_diagram
from megatron_nlg.report.foretold import foretold
from megatron_nlg.report.gantt import gantt_svg
from megatron_nlg.report.gantt import note as pipeline_note
from megatron_nlg.report.layers import heat_maps
from megatron_nlg.report.record import Record, Row


def page(record: Record, cluster: Cluster | None = None) -> str:
    """The whole page as text. Everything that comes from files is escaped."""
    title = escape(record.folder.resolve().name)
    sections = [
        _loss(record),
        _rates(record),
        _throughput(record),
        foretold(record, cluster) if cluster else "",
        _layout(record),
        _statistics(record),
        _timeline(record),
        _data(record),
        _samples(record),
        _checkpoints(record),
        _events(record),
        _config(record),
    ]
    return document(title, _header(record, title), sections)


def number(value: Any, form: str = ".4f") -> str:
    """A formatted number; null, which says that there was none, as a dash."""
    return "–" if value is None else format(value, form)


# ---- head ------------------------------------------------------------------------------------------------------------


def _header(record: Record, title: str) -> str:
    model, layout = record.config.model, record.layout
    tone = {"finished": " good", "failed": " bad"}.get(record.status, "")
    lead = (
        f"{count_text(total_parameters(model))} parameters: {model.num_layers} layers × {model.hidden_size}, "
        f"{model.num_attention_heads} heads, sequence {model.sequence_length}, vocabulary {model.vocab_size:,}; "
        f"{record.config.precision}"
    )
    where = f"<br>{escape(str(layout))} on {escape(_device(record))}" if layout else ""
    cards = "".join(f'<div class="fact"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in _facts(record))
    return (
        f'<h1>{title}<span class="badge{tone}">{escape(record.status)}</span></h1>\n'
        f'<p class="lead">{escape(lead)}{where}</p>\n<div class="facts">{cards}</div>'
    )


def _device(record: Record) -> str:
    devices = [str(event["device"]) for event in record.events if "device" in event]
    return devices[-1] if devices else "an unknown device"


def _facts(record: Record) -> list[tuple[str, str]]:
    steps = record.steps
    if not steps:
        return [("0", "steps so far")]
    last = steps[-1]
    facts = [
        (f"{last['step']:,}", f"steps, {count_text(last['tokens'])} tokens"),
        (f"{number(steps[0]['loss'], '.3f')} → {number(last['loss'], '.3f')}", "training loss, nats per token"),
    ]
    for source, rows in list(record.valid.items())[:2]:
        facts.append((number(rows[-1]["loss"], ".3f"), f"validation loss, {source}"))
    rate = median(row["tokens_per_second"] or 0 for row in steps)
    facts.append((count_text(rate), "tokens/s, median"))
    mfus = [row["mfu"] for row in steps if row.get("mfu") is not None]
    if mfus:
        facts.append((f"{100 * median(mfus):.1f} %", "MFU, median"))
    resumes = len(record.resumes)
    facts.append((str(resumes), "resume" if resumes == 1 else "resumes"))
    return facts


# ---- curves ----------------------------------------------------------------------------------------------------------


def _column(rows: Sequence[Row], key: str) -> list[Any]:
    return [row.get(key) for row in rows]


def _loss(record: Record) -> str:
    if not record.steps:
        return section("Loss", "No step has been logged yet.")
    x = _column(record.steps, "step")
    series = [Series("training", x, _column(record.steps, "loss"), COLORS[0], "smooth")]
    for i, (source, rows) in enumerate(record.valid.items()):
        color = COLORS[1 + i % (len(COLORS) - 1)]
        series.append(Series(f"validation: {source}", _column(rows, "step"), _column(rows, "loss"), color, "points"))
    over = "texts" if record.config.classes else "tokens"
    note = f"Mean over {over}, in nats. The bold line is a running mean of the training loss."
    if record.resumes:
        note += " Dashed red lines mark where the run was stopped and went on from a checkpoint."
    newest = [(source, rows[-1]) for source, rows in record.valid.items()]
    if record.config.classes:
        return section("Loss", note, chart("loss", [Panel("loss", series)], record.resumes, 3.9)) + _classes(record)
    cells = [(s, str(r["step"]), number(r["loss"]), number(r["perplexity"], ",.2f")) for s, r in newest]
    last = table(("validation source", "#step", "#loss", "#perplexity"), cells) if cells else ""
    return section("Loss", note, chart("loss", [Panel("loss", series)], record.resumes, 3.9), last)


def _classes(record: Record) -> str:
    """Accuracy and F1 of a classifier over steps, and all its validations."""
    rows = record.valid.get("validation", [])
    if not rows:
        return ""
    x = _column(rows, "step")
    panels = [
        Panel(title, [Series(title, x, _column(rows, key), color, "points")])
        for title, key, color in (("accuracy", "accuracy", COLORS[2]), ("F1", "f1", COLORS[3]))
    ]
    settings = record.config.data.classification
    assert settings
    whose = f"that of class {settings.labels[1]}" if len(settings.labels) == 2 else "the mean over all classes"
    note = f"On {rows[-1].get('examples', 0):,} texts; F1 is {whose}."
    cells = [(str(r["step"]), number(r["loss"]), number(r["accuracy"], ".4f"), number(r["f1"], ".4f")) for r in rows]
    return section(
        "Accuracy",
        note,
        chart("accuracy", panels, record.resumes, 2.6),
        table(("#step", "#loss", "#accuracy", "#F1"), cells),
    )


def _rates(record: Record) -> str:
    if not record.steps:
        return ""
    x = _column(record.steps, "step")
    panels = [
        Panel("learning rate", [Series("lr", x, _column(record.steps, "lr"), COLORS[0])], from_zero=True),
        Panel(
            "batch, sequences",
            [Series("batch", x, _column(record.steps, "batch_size"), COLORS[2], "steps")],
            from_zero=True,
        ),
    ]
    schedule = record.config.schedule
    note = (
        f"Warm-up over {count_text(schedule.warmup_tokens)} tokens, then {schedule.decay}; "
        f"a full batch is {record.config.batch.global_:,} sequences of {record.config.model.sequence_length:,} tokens."
    )
    return section("Learning rate and batch", escape(note), chart("rates", panels, record.resumes, 1.7))


def _throughput(record: Record) -> str:
    if not record.steps:
        return ""
    x = _column(record.steps, "step")
    speed = _column(record.steps, "tokens_per_second")
    panels = [
        Panel("tokens/s", [Series("tokens/s", x, speed, COLORS[3], "smooth")], from_zero=True),
        Panel("gradient norm", [Series("norm", x, _column(record.steps, "grad_norm"), COLORS[1], "smooth")], log=True),
    ]
    headers = [str(event["throughput"]) for event in record.events if "throughput" in event]
    clip = record.config.optimizer.clip_grad_norm
    note = f"{headers[-1]}. " if headers else ""
    note += f"The gradient norm is taken before clipping (at {clip:g})." if clip else "Gradients are not clipped."
    return section("Throughput and gradient norm", escape(note), chart("throughput", panels, record.resumes, 1.9))


# ---- pictures --------------------------------------------------------------------------------------------------------


def _layout(record: Record) -> str:
    layout = record.layout
    if layout is None:
        return ""
    note = (
        f"{layout.world_size} ranks: {layout}. A box is a tensor group, which shares every matrix; a row is a replica, "
        "whose stages pass activations from left to right; squares of one colour hold the same weights and average "
        "their gradients."
    )
    earlier = [str(Layout(**e["layout"])) for e in record.events if "layout" in e]
    changes = [f"{a} → {b}" for a, b in pairwise(earlier) if a != b]
    if changes:
        note += f" The layout changed at a resume: {'; '.join(changes)}."
    return section("Layout", escape(note), layout_diagram(layout, record.config.model.num_layers))


def _statistics(record: Record) -> str:
    noise = [row for row in record.statistics if "noise_scale" in row]
    layers = [row for row in record.statistics if row.get("layers")]
    parts, note = [], []
    if noise:
        x, scale = _column(noise, "step"), _column(noise, "noise_scale")
        batch = Series(
            "batch, sequences", _column(record.steps, "step"), _column(record.steps, "batch_size"), COLORS[2]
        )
        panel = Panel("sequences", [Series("noise scale", x, scale, COLORS[1], "points"), batch], log=True)
        parts.append(chart("noise", [panel], record.resumes, 2.4))
        note.append(
            "The gradient-noise scale is about the batch beyond which larger ones save few steps (McCandlish et al. "
            "2018); a mean over the last rows, and none while that is negative."
        )
    if layers:
        parts.append(heat_maps(layers))
        note.append("Below: every layer from the embedding up; the gradient is taken before clipping.")
    return section("Gradient noise and layers", " ".join(note), *parts) if parts else ""


def _timeline(record: Record) -> str:
    if record.pipeline is None:
        return ""
    return section("Timeline", escape(pipeline_note(record.pipeline)), gantt_svg(record.pipeline))


def _data(record: Record) -> str:
    if record.corpus is None:
        return ""
    stages = stages_of(record.corpus)
    tokens = record.corpus.get("tokens", {})
    if not stages:
        return ""
    rows = []
    for name in (stage.name for stage in stages):
        for source, tally in record.corpus["stages"][name]["sources"].items():
            why = ", ".join(
                f"{reason.replace('_', ' ')} {lost['documents']:,}" for reason, lost in tally["dropped"].items()
            )
            sizes = (bytes_text(tally["bytes_in"]), bytes_text(tally["bytes_out"]))
            rows.append(
                (name, source, f"{tally['documents_in']:,}", f"{tally['documents_out']:,}", *sizes, why or "nothing")
            )
    heads = ("stage", "source", "#documents in", "#documents out", "#text in", "#text out", "dropped")
    note = "Bands are as thick as their text is large, by source; red is what a stage dropped or cut."
    return section("Data", note, f'<div class="scroll">{flow_diagram(stages, tokens)}</div>', table(heads, rows))


# ---- lists -----------------------------------------------------------------------------------------------------------


def _samples(record: Record) -> str:
    if not record.samples:
        return ""
    parts = []
    for sample in record.samples:
        prompt, text = sample["prompt"], sample["text"]
        rest = text[len(prompt) :] if prompt and text.startswith(prompt) else text
        settings = sample.get("settings")
        note = f'<p class="note">{escape(_plain(settings))}</p>' if settings else ""
        parts.append(f'<div class="sample"><pre><b>{escape(prompt)}</b>{escape(rest)}</pre>{note}</div>')
    return section("Samples", "Prompts are blue; the model wrote the rest.", *parts)


def _plain(value: Any) -> str:
    """A setting, or several, as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _checkpoints(record: Record) -> str:
    saved = [event for event in record.events if event["event"] == "checkpoint"]
    if not saved:
        return ""
    rows = []
    for event in saved:
        path = record.folder / str(event.get("path", ""))
        there = "path" in event and path.is_dir()
        size = bytes_text(_size(path)) if there else "removed by the retention policy, or moved"
        rows.append((str(event["step"]), time_text(event["time"]), str(event.get("path", "")), size))
    keep = record.config.checkpoint
    forever = f", and those of every {keep.keep_every} steps for ever" if keep.keep_every else ""
    note = f"The newest {keep.keep_last} are kept{forever}."
    return section("Checkpoints", escape(note), table(("#step", "complete at", "folder", "#size"), rows))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _events(record: Record) -> str:
    if not record.events:
        return ""
    begin = record.events[0]["time"]
    rows = []
    for event in record.events:
        rest = {k: v for k, v in event.items() if k not in ("event", "step", "time", "throughput")}
        if "layout" in rest:
            rest["layout"] = str(Layout(**rest["layout"]))
        after = duration_text(event["time"] - begin)
        rows.append((time_text(event["time"]), after, event["event"], str(event["step"]), _plain(rest)))
    return section("Events", "Since the first start.", table(("time", "#after", "event", "#step", "what"), rows))


def _stage(stage: Stage) -> str:
    """A mixture's blend and weights, as far as they are given."""
    weights = ", ".join(f"{source} {weight:g}" for source, weight in (stage.weights or {}).items())
    return "; ".join(part for part in (stage.blend, weights) if part)


def _config(record: Record) -> str:
    config = record.config
    optimizer, schedule, batch = config.optimizer, config.schedule, config.batch
    ramp = (
        f", from {batch.ramp.start} by {batch.ramp.increment} over {count_text(batch.ramp.tokens)} tokens"
        if batch.ramp
        else ""
    )
    parallel = f"ZeRO stage {config.parallel.zero_stage}, recomputation {config.parallel.recompute}"
    rows = [
        ("training", f"{count_text(schedule.train_tokens)} tokens, seed {config.seed}, {config.precision}"),
        ("batch", f"{batch.global_} sequences{ramp}; {batch.micro} in a micro-batch"),
        ("learning rate", f"{optimizer.lr:g}, {schedule.decay} to {schedule.min_lr_ratio:g} of it"),
        ("AdamW", f"beta {optimizer.beta1:g} and {optimizer.beta2:g}, weight decay {optimizer.weight_decay:g}"),
        ("parallelism", parallel + (", sequence parallel" if config.parallel.sequence else "")),
        ("data", f"{config.data.blend or 'none'}, split {config.data.split[0]:g} / {config.data.split[1]:g}"),
        *[(f"from {count_text(stage.from_tokens)} tokens", _stage(stage)) for stage in config.data.stages],
    ]
    text = f"<details><summary>All settings</summary><pre>{escape(to_yaml(config))}</pre></details>"
    return section("Config", "What config.yaml in the run folder says.", table(("", ""), rows), "<br>", text)
