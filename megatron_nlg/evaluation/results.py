"""What an evaluation found: a table, a JSON file, and a plot beside published models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from data_prep.files import replacing, write_json

PUBLISHED = Path(__file__).parent / "published.yaml"
HEADLINE = {"hellaswag": "acc_norm", "piqa": "acc_norm"}
"""Metric of a task that stands for it, where that is not its accuracy."""
CHANCE = {
    "race_h": 25,
    "boolq": 50,
    "piqa": 50,
    "hellaswag": 25,
    "winogrande": 50,
    "anli_r2": 33.3,
    "hans": 50,
    "wic": 50,
}
"""Percent that guessing gives, for tasks with choices."""


@dataclass(frozen=True)
class Outcome:
    """A task with a number of examples."""

    task: str
    shots: int
    few: bool
    """Whether that is the task's own number."""
    metrics: dict[str, float]
    cut: int
    """Requests whose beginning did not fit into the model."""
    seconds: float

    @property
    def headline(self) -> tuple[str, float]:
        """Name and value of the metric that stands for the task."""
        wanted = HEADLINE.get(self.task, "acc")
        name = wanted if wanted in self.metrics else next(iter(self.metrics))
        return name, self.metrics[name]

    @property
    def label(self) -> str:
        """Of its column."""
        return f"few ({self.shots})" if self.few else f"{self.shots}"


def published() -> dict[str, dict[str, Any]]:
    """Models with their source and zero-shot accuracies in percent."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    return found


def write(folder: Path, about: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """results.json and results.png, each whole or not at all."""
    rows = [asdict(outcome) for outcome in outcomes]
    write_json(folder / "results.json", {"model": about, "results": rows, "published": published()})
    limit = f", {about['limit']} documents of each task" if about.get("limit") else ""
    draw(folder / "results.png", f"{about['run']}, step {about['step']}{limit}", outcomes)


def table(outcomes: Sequence[Outcome]) -> Table:
    """Every metric, with its standard error."""
    out = Table("task", "shots", "metric", box=None, pad_edge=False)
    out.add_column("value", justify="right")
    out.add_column("± std. error", justify="right")
    for name in ("documents", *published()):
        out.add_column(name, justify="right")
    for outcome in outcomes:
        head = outcome.headline[0]
        for number, (name, value) in enumerate(outcome.metrics.items()):
            if name.endswith("_stderr") or name == "documents":
                continue
            error = outcome.metrics.get(f"{name}_stderr")
            share = name.startswith("acc")
            shown = [f"{100 * each:.1f} %" if share else f"{each:.4g}" for each in (value, error) if each is not None]
            known = [
                f"{model['zero_shot'][outcome.task]:.1f} %"
                if name == head and not outcome.shots and outcome.task in model["zero_shot"]
                else ""
                for model in published().values()
            ]
            first = [outcome.task, outcome.label] if number == 0 else ["", ""]
            count = f"{outcome.metrics['documents']:.0f}" if number == 0 else ""
            out.add_row(*first, name, shown[0], shown[1] if len(shown) > 1 else "", count, *known)
    return out


def draw(path: Path, title: str, outcomes: Sequence[Outcome]) -> None:
    """Bars of accuracy by task and number of examples, and marks of published zero-shot accuracies."""
    from matplotlib.figure import Figure

    shown = [outcome for outcome in outcomes if outcome.headline[0].startswith("acc")]
    tasks = list(dict.fromkeys(outcome.task for outcome in shown))
    kinds = list(dict.fromkeys("few" if outcome.few else f"{outcome.shots}" for outcome in shown))
    figure = Figure(figsize=(3 + 1.3 * len(tasks), 4.8), layout="constrained")
    axes = figure.subplots()
    colours = ("#93c5fd", "#3b82f6", "#1e40af", "#0f172a", "#64748b")
    width = 0.8 / max(1, len(kinds))
    for number, kind in enumerate(kinds):
        found = [outcome for outcome in shown if ("few" if outcome.few else f"{outcome.shots}") == kind]
        places = [tasks.index(outcome.task) - 0.4 + width * (number + 0.5) for outcome in found]
        name, value = zip(*(outcome.headline for outcome in found), strict=True)
        errors = [
            196 * outcome.metrics.get(f"{metric}_stderr", 0.0) for outcome, metric in zip(found, name, strict=True)
        ]
        label = "few-shot" if kind == "few" else f"{kind}-shot"
        axes.bar(places, [100 * each for each in value], width * 0.92, yerr=errors, capsize=2, label=label,
                 color=colours[number % len(colours)], error_kw={"linewidth": 0.8})  # fmt: skip
    marks = {"MT-NLG 530B": ("D", "#b45309"), "GPT-3 175B": ("o", "#047857")}
    for model, about in published().items():
        known = [task for task in tasks if task in about["zero_shot"]]
        marker, colour = marks.get(model, ("s", "#6b7280"))
        axes.scatter([tasks.index(task) for task in known], [about["zero_shot"][task] for task in known],
                     marker=marker, color=colour, s=34, zorder=3, label=f"{model}, zero-shot")  # fmt: skip
    guessed = [task for task in tasks if task in CHANCE]
    for task in guessed:
        place = tasks.index(task)
        axes.plot([place - 0.45, place + 0.45], [CHANCE[task]] * 2, color="#9ca3af", linestyle=":", linewidth=1.2,
                  label="guessing" if task == guessed[0] else None)  # fmt: skip
    labels = {outcome.task: f"{outcome.task}\n({outcome.headline[0]})" for outcome in shown}
    axes.set_xticks(range(len(tasks)), [labels[task] for task in tasks])
    axes.set_ylabel("accuracy, %; bars: 95 % interval")
    axes.set_ylim(0, 100)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
