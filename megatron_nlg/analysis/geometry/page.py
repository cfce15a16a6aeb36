"""The report of a geometry study: what it says in words, then its pictures and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from data_prep.report.drawing import header, number, statement
from data_prep.report.html import document, section, table
from megatron_nlg.analysis.geometry.dimensions import DRAWS, ROGUE, TOP

Figures = Mapping[str, Any]


def page(study: Figures, drawn: Mapping[str, Sequence[str]]) -> str:
    """The whole page, from what figures.json holds and the pictures by section."""
    models, counts = study["models"], study["examples"]
    first = models[0]
    title = f"Geometry: {first['name']}" + (f" and {len(models) - 1} more" if len(models) > 1 else "")
    lead = (
        f"{counts['shown']:,} texts: {study['data']['file']}, seed {study['settings']['seed']}; thresholds fitted on "
        f"{counts['fitted']:,} others, accuracies of {counts['held']:,}."
    )
    sections = [
        section("What it says", "Read off the figures below, by fixed rules.", statement([*verdicts(study)])),
        section("Similarity of blocks", _CKA, *drawn["cka"]),
        section("Dimensions", _DIMENSIONS, *drawn["variance"], _rogues(models), *drawn["dimensions"]),
        section("The same dimensions?", _OVERLAP, *drawn["overlap"]) if drawn["overlap"] else "",
        section("One dimension against all", _THRESHOLD, *drawn["threshold"], *drawn["values"], _accuracies(study)),
        section("Without dimensions", _ABLATION, *drawn["ablation"]) if drawn["ablation"] else "",
        section("Isotropy", _ISOTROPY, *drawn["isotropy"]),
        section("t-SNE", f"{len(study['points']['examples']):,} of the texts, a panel a block.", *drawn["tsne"]),
        section("PCA", "The same texts; the two components' share of the variance.", *drawn["pca"]),
        section("How it was measured", escape(_how(study))),
    ]
    return document(escape(title), header(title, lead, _facts(study)), sections)


_CKA = (
    "Linear CKA: 1 where two blocks hold the texts in the same arrangement, up to rotation and scale, 0 where they "
    "have nothing in common. The unbiased estimate is near 0 for unrelated blocks however few the texts; that of all "
    "examples is above it, the more so the wider the model."
)
_DIMENSIONS = (
    "Over texts, at the token that sums a text up. A dimension is called rogue, orange, where its variance is more "
    f"than {ROGUE:g} times the mean of its block; the one with most is named. Below: mean value of each class by "
    "dimension, one standard deviation in grey, and the three with most variance."
)
_OVERLAP = f"Of the {TOP} dimensions with most variance, the share that two models of one shape have in common."
_THRESHOLD = (
    "The dimension with most variance and one threshold, a linear SVM in one dimension, against all dimensions: by "
    "ridge regression fitted here, and by the head that the model was trained with."
)
_ABLATION = (
    "The k dimensions with most, or least, variance are set to zero before the trained head. Random: "
    f"{DRAWS} draws of k dimensions."
)
_ISOTROPY = (
    "Average cosine of pairs of texts: 0 where directions are spread evenly, 1 where all texts point one way. "
    "IsoScore: 1 where variance is the same in all directions, 0 where there is one. Dashed: the mean over a text's "
    "tokens."
)


def verdicts(study: Figures) -> Iterator[str]:
    """Sentences, by fixed rules."""
    for model in study["models"]:
        last, head = model["blocks"][-1], model["head"]
        if head and last["threshold"]:
            alone, whole = 100 * last["threshold"]["accuracy"], 100 * head["accuracy"]
            yield (
                f"{model['name']}: dimension {last['threshold']['dimension']} of the last block alone is right in "
                f"{alone:.1f} %, the trained head on all {model['hidden_size']} in {whole:.1f} %; the largest class "
                f"has {100 * study['examples']['majority']:.1f} %."
            )
        elif head is None:
            yield (
                f"{model['name']}: has no head for these classes; ridge regression on its last block is right in "
                f"{100 * last['linear']:.1f} %."
            )
        most = f"its dimension {last['top'][0]} has {100 * (last['top_share'] or 0):.1f} % of the last block's variance"
        yield f"{model['name']}: {most}; {len(last['rogue'])} dimensions there are rogue."
    yield from _similarities(study)
    yield from _losses(study)


def _similarities(study: Figures) -> Iterator[str]:
    """How far the first model's last block is from the others'."""
    values, blocks = study["cka"]["summary"]["minibatch"], study["blocks"]
    first = study["models"][0]
    for other in study["models"][1:]:
        same = [i for i, (name, _) in enumerate(blocks) if name == other["name"]]
        own = range(first["layers"])
        pairs = list(zip(own, same, strict=False)) if first["layers"] == other["layers"] else [(own[-1], same[-1])]
        told = ", ".join(number(values[i][j]) for i, j in pairs)
        what = "block by block" if len(pairs) > 1 else "last blocks"
        yield f"CKA of {first['name']} and {other['name']}, {what}: {told}."


def _losses(study: Figures) -> Iterator[str]:
    for model in study["models"]:
        if model["head"]:
            curve, whole = model["head"]["ablation"], model["head"]["accuracy"]
            at = min(range(len(curve["k"])), key=lambda i: abs(curve["k"][i] - model["hidden_size"] / 4))
            yield (
                f"{model['name']}: without {curve['k'][at]:.0f} of {model['hidden_size']} dimensions the head's "
                f"{100 * whole:.1f} % become {100 * curve['top'][at]:.1f} (highest variance), "
                f"{100 * curve['bottom'][at]:.1f} (lowest), {100 * curve['random'][at]:.1f} (random)."
            )


def _facts(study: Figures) -> list[tuple[str, str]]:
    facts = []
    for model in study["models"]:
        last = model["blocks"][-1]
        if model["head"]:
            facts.append((f"{100 * model['head']['accuracy']:.1f} %", f"right, head of {model['name']}"))
        if last["threshold"]:
            facts.append((f"{100 * last['threshold']['accuracy']:.1f} %", f"right, one dimension of {model['name']}"))
    return facts


def _rogues(models: Sequence[Figures]) -> str:
    heads = ("model", "#block", "#top dimension", "#its share, %", "#rogue", "rogue dimensions")
    rows = []
    for model in models:
        for layer, block in enumerate(model["blocks"]):
            named = ", ".join(map(str, block["rogue"][:TOP])) + (" …" if len(block["rogue"]) > TOP else "")
            share = number(None if block["top_share"] is None else 100 * block["top_share"], ".1f")
            rows.append((model["name"], str(layer), str(block["top"][0]), share, str(len(block["rogue"])), named))
    return f"<details><summary>All blocks</summary>{table(heads, rows)}</details>"


def _accuracies(study: Figures) -> str:
    heads = ("model", "#block", "#dimension", "#threshold", "#one dimension, %", "#all, ridge, %", "#head, %")
    rows = []
    for model in study["models"]:
        for layer, block in enumerate(model["blocks"]):
            found = block["threshold"]
            alone = ("–", "–", "–")
            if found:
                alone = (str(found["dimension"]), number(found["at"], ".3g"), f"{100 * found['accuracy']:.1f}")
            last = layer == model["layers"] - 1 and model["head"]
            head = f"{100 * model['head']['accuracy']:.1f}" if last else "–"
            rows.append((model["name"], str(layer), *alone, f"{100 * block['linear']:.1f}", head))
    return f"<details><summary>All blocks</summary>{table(heads, rows)}</details>"


def _how(study: Figures) -> str:
    settings = study["settings"]
    where = "; ".join(
        f"{model['name']}: {model['summary']} token" + (f", step {model['step']}" if model["step"] is not None else "")
        + (f", {model['longer']} texts cut" if model["longer"] else "")
        for model in study["models"]
    )  # fmt: skip
    return (
        f"Texts are {settings['text']!r}, of {settings['max_length']} tokens at most. Block 0 is the embeddings, the "
        f"last block is read after the final norm, as the head reads it. {where}. Unbiased CKA: minibatches of "
        f"{settings['batch']} (Nguyen et al. 2021). The threshold minimises the hinge loss of one standardized "
        "dimension exactly; the dimension is the one with most variance among the texts that it is fitted on."
    )
