"""The report of a probing study: what it says in words, then its pictures and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from data_prep.report.drawing import header, statement
from data_prep.report.html import document, section, table
from megatron_nlg.analysis.probing.codelength import FRACTIONS
from megatron_nlg.analysis.probing.tables import best

Figures = Mapping[str, Any]
Row = Mapping[str, Any]

LEARNED = 0.015
"""Of compression beyond what the frequencies of classes give: from here on a probe is said to have found something."""
CLEAR = 0.05
"""Of compression, and of selectivity: so much more is called more."""


def page(figures: Figures, drawn: Mapping[str, Sequence[str]]) -> str:
    """The whole page, from what figures.json holds and the pictures by section."""
    models, top = names(figures), best(figures)
    title = f"Probing: {models[0]}" + (f" and {len(models) - 1} more" if len(models) > 1 else "")
    tasks = figures["tasks"]
    lead = (
        f"{len(tasks)} tasks, {sum(task['examples'] for task in tasks):,} examples, seed "
        f"{figures['training']['seed']}. Layer 0 is the embeddings, the last one what follows the final norm."
    )
    facts = [
        (f"{row['compression']:.2f} ×", f"{row['task']}, layer {row['layer']} of {row['model']}, {row['probe']}")
        for row in top[: 2 * len(tasks)]
        if row["model"] == models[0] and row["probe"] == top[0]["probe"]
    ]
    kinds = [name.split(" ")[1] for name in drawn if name.startswith("layers ")]
    sections = [
        section("What it says", "Read off the figures below, by fixed rules.", statement([*verdicts(figures)])),
        _rankers(figures),
        section("Where it is", _WHERE, *drawn["where"]) if "where" in drawn else "",
        *(section(_KINDS[kind], _LAYERS, *drawn[f"layers {kind}"]) for kind in kinds),
        section("Codes", _CODES, *drawn["code"]),
        section("Mixtures of layers", _MIXTURES, *drawn["mixture"]) if "mixture" in drawn else "",
        section("Best layers", "By compression.", _best(top)),
        _tasks(figures),
        section("How it was measured", escape(_how(figures)), _every(figures["rows"])),
    ]
    return document(escape(title), header(title, lead, facts), sections)


def names(figures: Figures) -> list[str]:
    """Of models, the first one first."""
    return [model["name"] for model in figures["models"]]


_KINDS = {
    "linear": "Linear probes, layer by layer",
    "mlp": "Probes with a hidden layer, layer by layer",
    "multi": "All tasks by one projection, layer by layer",
}
_WHERE = (
    "Compression of the labels by layer. Colours go from what the frequencies of classes give to the best layer of all "
    "models, row by row; what is high early is near the words, what rises late had to be computed."
)
_LAYERS = (
    "Full: the task. Dashed: its control, random labels of the same types, which can only be remembered. Dotted: what "
    "knowing nothing gives (the uniform code, the frequencies of classes, the commonest class). Selectivity is "
    "accuracy less the control's."
)
_CODES = (
    "Bits that each portion's labels took, of each model's best layer; the area under a curve, on a linear axis, is "
    "the description length. Dashed: the control task. Dotted: the uniform code."
)
_MIXTURES = "What weight a linear probe on a mean of all layers has learned to give to each of them."


def verdicts(figures: Figures) -> Iterator[str]:
    """Sentences about each task, by the first kind of probe: the best layer, its control, other models."""
    models, kind = names(figures), figures["rows"][0]["probe"]
    prior = {task["task"]: task["prior"] for task in figures["tasks"]}
    for task, known in prior.items():
        rows = [row for row in figures["rows"] if row["task"] == task and row["probe"] == kind]
        own = [row for row in rows if row["model"] == models[0]]
        top = max(own, key=lambda row: row["compression"])
        text = f"{task}: "
        if top["compression"] < known + LEARNED:
            text += f"no layer of {models[0]} tells more than the frequencies of the classes ({top['compression']:.3f} "
            text += f"against {known:.3f} times)"
        else:
            text += f"layer {top['layer']} of {models[0]} compresses {top['compression']:.2f} times, accuracy "
            text += f"{100 * top['accuracy']:.1f} % where the commonest class has {100 * top['majority']:.1f} %"
            if own[0]["layer"] == 0 and top["compression"] - own[0]["compression"] < CLEAR:
                text += "; the embeddings do as well"
            if top["selectivity"] < CLEAR:
                text += "; not more than the control task, which is remembered"
        for model in models[1:]:
            other = max((row for row in rows if row["model"] == model), key=lambda row: row["compression"])
            change = other["compression"] - top["compression"]
            word = "more" if change > CLEAR else "less" if change < -CLEAR else "the same"
            text += f"; {model}: {word} ({other['compression']:.2f}, layer {other['layer']})"
        yield text + "."
    yield (
        "A probe shows what can be read from a layer, not what the model uses. Compression depends on the number of "
        "examples and on the collection: compare layers and models within a report."
    )


def _rankers(figures: Figures) -> str:
    if not figures["rankers"]:
        return ""
    found = figures["collection"]
    note = (
        f"{found['folder']}: {found['passages']:,} passages of at most {found['words']} words, {found['queries']:,} "
        f"queries, {found['judged']:,} with judgements; 1,000 passages a query. The measures are those of ranx; "
        "passages without a judgement count as not relevant."
    )
    columns = [name for name in figures["rankers"][0] if name != "ranker"]
    cells = [(row["ranker"], *(f"{row[name]:.4f}" for name in columns)) for row in figures["rankers"]]
    return section("Rankers", escape(note), table(("ranker", *(f"#{_MEASURES.get(n, n)}" for n in columns)), cells))


_MEASURES = {"map": "MAP", "mrr": "MRR", "ndcg@10": "nDCG@10", "ndcg@100": "nDCG@100",
             "precision@10": "P@10", "precision@100": "P@100"}  # fmt: skip

_HEADS = ("#compression", "#MDL, bits", "#accuracy, %", "#F1", "#commonest, %", "#control compression",
          "#control accuracy, %", "#selectivity, points")  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    control = row["control"]
    percents = (100 * row["accuracy"], 100 * row["majority"], 100 * control["accuracy"], 100 * row["selectivity"])
    accuracy, majority, other, selectivity = (f"{value:.1f}" for value in percents)
    return (
        f"{row['compression']:.3f}", f"{row['bits']:,.0f}", accuracy, f"{row['f1']:.3f}", majority,
        f"{control['compression']:.3f}", other, selectivity,
    )  # fmt: skip


def _best(rows: Sequence[Row]) -> str:
    heads = ("task", "model", "probe", "#layer", *_HEADS)
    ordered = sorted(rows, key=lambda row: [r["task"] for r in rows].index(row["task"]))
    return table(heads, [(r["task"], r["model"], r["probe"], str(r["layer"]), *_cells(r)) for r in ordered])


def _every(rows: Sequence[Row]) -> str:
    heads = ("model", "task", "probe", "#layer", *_HEADS)
    cells = [(row["model"], row["task"], row["probe"], str(row["layer"]), *_cells(row)) for row in rows]
    return f"<details><summary>All layers</summary>{table(heads, cells)}</details>"


def _tasks(figures: Figures) -> str:
    cells = [
        (task["task"], f"{task['examples']:,}", ", ".join(task["classes"]), task["about"]) for task in figures["tasks"]
    ]
    return section("Tasks", "How each set was made.", table(("task", "#examples", "classes", "about"), cells))


def _how(figures: Figures) -> str:
    how = figures["training"]
    product = ", of two also their elementwise product" if how["product"] else ""
    return (
        f"Representations are frozen: means over the tokens of each span, spans side by side{product}, standardized. "
        f"Codes are online codes (Voita and Titov 2020): labels are sent in portions that end at {FRACTIONS[0]:g}, "
        f"{', '.join(f'{f:g}' for f in FRACTIONS[1:])} % of the examples; the first by the uniform code, each other "
        "one by a probe trained on all before it. Compression is the uniform code's length over theirs. Probes: Adam, "
        f"learning rate {how['step']:g} over the number of inputs, batches of {how['batch_size']}, at most "
        f"{how['rounds']} rounds, stopped where the loss on held-out examples has not fallen for {how['patience']}; "
        f"{100 * how['held_out']:.0f} % are held out for that, and as many tested on. Control: each type has one "
        "random label (Hewitt and Liang 2019)."
    )
