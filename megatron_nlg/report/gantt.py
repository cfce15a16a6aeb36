"""The pipeline as it really ran: one bar a phase and one row a rank, from the trace of log.timeline_steps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.files import read_json, replacing
from data_prep.report.figure import GRID, INK, STYLE, svg
from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.layout import Layout

MOST_ROWS = 32
"""With more ranks than this, one replica's first tensor rank of each stage stands for all."""
FORWARD, BACKWARD = ("#2563eb", "#93c5fd", "#1e40af", "#bfdbfe"), ("#059669", "#6ee7b7", "#065f46", "#a7f3d0")
OTHERS = {"p2p": "#d1d5db", "optimizer": "#7c3aed", "all-reduce": "#ea580c", "data": "#b91c1c"}
"""Later ones are drawn over earlier ones: collectives are parts of other phases."""


@dataclass(frozen=True)
class Bar:
    """A phase of a rank, in milliseconds since its step began anywhere."""

    rank: int
    phase: str
    begin: float
    length: float
    micro_batch: int
    chunk: int


@dataclass(frozen=True)
class Pipeline:
    """One recorded step."""

    step: int
    layout: Layout
    places: Sequence[Mapping[str, int]]
    """Coordinates by rank."""
    bars: Sequence[Bar]
    path: Path
    """The trace."""

    @property
    def rows(self) -> list[int]:
        """Ranks in the order they are drawn: the stages of a pipeline side by side."""
        ranks = sorted(range(len(self.places)), key=lambda r: [self.places[r][a] for a in _AXES])
        if len(ranks) <= MOST_ROWS:
            return ranks
        return [r for r in ranks if not any(self.places[r][axis] for axis in _AXES[:-1])][: 2 * MOST_ROWS]

    @property
    def idle(self) -> float:
        """Share of the time from the first forward pass to the last backward pass in which ranks computed neither."""
        passes = [bar for bar in self.bars if bar.phase in ("forward", "backward")]
        window = max(bar.begin + bar.length for bar in passes) - min(bar.begin for bar in passes)
        return 1 - sum(bar.length for bar in passes) / window / len(self.places)

    @property
    def bubble(self) -> float:
        """The schedule's own share of idle time, were all passes alike: (p - 1) / (v m + p - 1)."""
        layout, first = self.layout, [b for b in self.bars if b.phase == "forward" and b.rank == 0]
        return (layout.pipeline - 1) / (len(first) + layout.pipeline - 1)


_AXES = ("data", "context", "tensor", "pipe")


def read_pipeline(folder: Path) -> Pipeline | None:
    """The last step of the newest trace in a run folder, or None. Raises InputError for one that is not understood."""
    paths = sorted(folder.glob("logs/timeline_steps_*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return None
    mend = "remove it, or record it again (log.timeline_steps)"
    trace = read_json(paths[-1], mend)
    try:
        return pipeline_of(trace, paths[-1])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{paths[-1]}: not a timeline ({type(error).__name__}: {error}); {mend}") from None


def pipeline_of(trace: Mapping[str, Any], path: Path) -> Pipeline:
    """The last step of a trace."""
    about = trace["otherData"]
    step = int(about["steps"][-1])
    bars = [
        Bar(
            event["tid"],
            str(event["cat"]),
            event["ts"] / 1e3,
            event["dur"] / 1e3,
            event["args"].get("micro_batch", -1),
            event["args"].get("chunk", 0),
        )
        for event in trace["traceEvents"]
        if event["ph"] == "X" and event["args"]["step"] == step
    ]
    start = min(bar.begin for bar in bars)
    places = [{axis: int(place[axis]) for axis in _AXES} for place in about["ranks"]]
    moved = [Bar(b.rank, b.phase, b.begin - start, b.length, b.micro_batch, b.chunk) for b in bars]
    return Pipeline(step, Layout(**about["layout"]), places, moved, path)


def gantt_svg(pipeline: Pipeline) -> str:
    """The picture as an SVG element."""
    return svg(_figure(pipeline), "timeline")


def write_png(pipeline: Pipeline) -> Path:
    """The picture beside its trace."""
    path = pipeline.path.with_suffix(".png")
    with replacing(path) as temporary:
        _figure(pipeline).savefig(temporary, format="png", dpi=150, facecolor="white")
    return path


def draw(pipeline: Pipeline, kind: str) -> bytes:
    """The picture as a png or svg file."""
    buffer = io.BytesIO()
    _figure(pipeline).savefig(buffer, format=kind, dpi=150, facecolor="white")
    return buffer.getvalue()


def _figure(pipeline: Pipeline) -> Any:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = pipeline.rows
    with mpl.rc_context({**STYLE, "svg.hashsalt": "timeline"}):
        figure = Figure(
            figsize=(10, 1.3 + (0.42 if len(rows) <= MOST_ROWS else 0.22) * len(rows)), layout="constrained"
        )
        axes = figure.subplots()
        end = max(bar.begin + bar.length for bar in pipeline.bars)
        for row, rank in enumerate(rows):
            _draw_row(axes, [bar for bar in pipeline.bars if bar.rank == rank], row, end)
        axes.set_yticks(range(len(rows)), [_label(pipeline, rank) for rank in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, end)
        axes.tick_params(length=0)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x", color=GRID)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"milliseconds of step {pipeline.step}")
        chunks = range(min(pipeline.layout.interleave, len(FORWARD)))
        named = [
            (f"{name}{f', chunk {chunk}' if len(chunks) > 1 else ''}", colors[chunk])
            for name, colors in (("forward", FORWARD), ("backward", BACKWARD))
            for chunk in chunks
        ]
        present = {bar.phase for bar in pipeline.bars}
        named += [(phase, color) for phase, color in OTHERS.items() if phase in present]
        handles = [Patch(color=color, label=label) for label, color in named]
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=6 if len(handles) <= 6 else 4,
            fontsize=8.5,
            handlelength=1,
        )
        return figure


def _label(pipeline: Pipeline, rank: int) -> str:
    return f"stage {pipeline.places[rank]['pipe']} · rank {rank}" if pipeline.layout.pipeline > 1 else f"rank {rank}"


def _draw_row(axes: Any, bars: Sequence[Bar], row: int, end: float) -> None:
    """A rank's bars; passes carry the number of their micro-batch where there is room."""
    for phase, color in OTHERS.items():
        spans = [(bar.begin, bar.length) for bar in bars if bar.phase == phase]
        slim = phase in ("p2p", "all-reduce")
        axes.broken_barh(spans, (row - (0.2 if slim else 0.36), 0.4 if slim else 0.72), facecolors=color, zorder=2)
    for phase, colors in (("forward", FORWARD), ("backward", BACKWARD)):
        passes = [bar for bar in bars if bar.phase == phase]
        axes.broken_barh(
            [(bar.begin, bar.length) for bar in passes],
            (row - 0.36, 0.72),
            facecolors=[colors[bar.chunk % len(colors)] for bar in passes],
            edgecolors="white",
            # Edges of many short passes would cover them.
            linewidths=[0.5 if bar.length > end * 0.004 else 0 for bar in passes],
            zorder=3,
        )
        for bar in passes:
            if bar.length > end * 0.012:
                ink = INK if bar.chunk % 2 else "white"
                middle = bar.begin + bar.length / 2
                axes.text(middle, row, str(bar.micro_batch), ha="center", va="center", color=ink, fontsize=8, zorder=4)


def note(pipeline: Pipeline) -> str:
    """What the picture shows, in words."""
    layout = pipeline.layout
    text = (
        f"Step {pipeline.step} on {layout}, as it ran. Numbers are micro-batches; grey is sending, receiving and "
        f"waiting for another stage. {pipeline.path.name} holds every recorded step for Perfetto or chrome://tracing."
    )
    if layout.pipeline > 1:
        kind = f"interleaved 1F1B with {layout.interleave} chunks a stage" if layout.interleave > 1 else "1F1B"
        text += (
            f" Ranks computed neither forward nor backward in {pipeline.idle:.0%} of the time; {kind} alone would "
            f"leave {pipeline.bubble:.0%}, were all passes equally long."
        )
    return text
