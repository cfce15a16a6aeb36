"""Pictures of a geometry study, from its figures: SVG elements for the page, and PNG and SVG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import make_folder
from data_prep.report.drawing import drawing, plain
from data_prep.report.figure import INK, MUTED
from data_prep.report.html import COLORS
from megatron_nlg.analysis.geometry.dimensions import ROGUE

Figures = Mapping[str, Any]
NAMED = 3
"""Dimensions that a picture names."""
LINE = (0, (4, 3))
COLUMNS = 5
"""Blocks beside each other at most."""
ANNOTATED = 9
"""Blocks up to which heat maps say their numbers."""


def pictures(study: Figures, folder: Path) -> dict[str, list[str]]:
    """SVG elements by section; `folder` gets every picture as PNG and SVG."""
    make_folder(folder)
    models = study["models"]
    each: dict[str, Callable[[Figures, int, Path], str]] = {"dimensions": _dimensions, "tsne": _tsne, "pca": _pca}
    found = {
        "cka": [_similar(study, "minibatch", folder), _pairs(study, folder), _similar(study, "full", folder)],
        "variance": [_variance(models, folder)],
        "overlap": [_overlap(study["overlap"], folder)] if study["overlap"] else [],
        "threshold": [_blockwise(study, folder)],
        "values": [_values(study, folder)] if len(study["examples"]["labels"]) == 2 else [],
        "ablation": [_ablation(study, folder)] if any(model["head"] for model in models) else [],
        "isotropy": [_isotropy(models, folder)],
    }
    for name, draw in each.items():
        found[name] = [draw(study, number, folder) for number in range(len(models))]
    return found


# ---- similarity --------------------------------------------------------------------------------------------------


def _similar(study: Figures, estimator: str, folder: Path) -> str:
    """CKA of all blocks of all models, at the token that sums a text up and of the mean over its tokens."""
    models = study["models"]
    edges = np.cumsum([0, *(model["layers"] for model in models)])
    middles = (edges[1:] + edges[:-1] - 1) / 2
    names = [plain(model["name"]) for model in models]
    with drawing(f"geometry-cka-{estimator}", 5.2, 1, 2, folder) as drawn:
        for ax, (pooled, title) in zip(drawn.axes[0], _POOLED.items(), strict=True):
            values = np.array(study["cka"][pooled][estimator], float)
            shown = ax.imshow(values, vmin=0, vmax=1, cmap="viridis")
            for edge in edges[1:-1]:
                ax.axhline(edge - 0.5, color="white", linewidth=1.5)
                ax.axvline(edge - 0.5, color="white", linewidth=1.5)
            ax.set_xticks(middles, names)
            ax.set_yticks(middles, names, rotation=90, va="center")
            ax.set_title(title, loc="left", fontsize=10)
            ax.grid(visible=False)
        drawn.figure.colorbar(shown, ax=drawn.axes, shrink=0.75, label=f"CKA, {_ESTIMATORS[estimator]}")
    return drawn.markup


_POOLED = {"summary": "last token ([CLS] of encoders)", "mean": "mean over tokens"}
_ESTIMATORS = {"minibatch": "unbiased, from minibatches", "full": "of all examples"}


def _pairs(study: Figures, folder: Path) -> str:
    """The first model's blocks against themselves and against each other model's, at the last token."""
    models = study["models"]
    values = np.array(study["cka"]["summary"]["minibatch"], float)
    edges = np.cumsum([0, *(model["layers"] for model in models)])
    with drawing("geometry-cka-pairs", 10 / len(models) * 0.95 + 0.5, 1, len(models), folder) as drawn:
        for ax, model, first, last in zip(drawn.axes[0], models, edges[:-1], edges[1:], strict=True):
            part = values[: edges[1], first:last]
            ax.imshow(part, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
            if max(part.shape) <= ANNOTATED:
                for (i, j), value in np.ndenumerate(part):
                    color = "white" if value <= 0.6 else INK
                    ax.text(j, i, _short(value), ha="center", va="center", fontsize=7.5, color=color)
            ax.set_xlabel(plain(model["name"]))
            ax.grid(visible=False)
        drawn.axes[0, 0].set_ylabel(plain(models[0]["name"]))
    return drawn.markup


def _short(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}".removeprefix("0")


# ---- dimensions --------------------------------------------------------------------------------------------------


def _variance(models: Sequence[Figures], folder: Path) -> str:
    """Every dimension of every block: its variance, in units of its block's mean."""
    from matplotlib.ticker import LogLocator

    with drawing("geometry-variance", 3.4, 1, len(models), folder, sharey=True) as drawn:
        for ax, model in zip(drawn.axes[0], models, strict=True):
            for number, block in enumerate(model["blocks"]):
                variance = np.array(block["variance"], float)
                ratio = variance / (variance.mean() or 1.0)
                far = ratio > ROGUE
                for which, color, size in ((~far, COLORS[7], 5), (far, COLORS[1], 12)):
                    ax.scatter(
                        np.full(which.sum(), number),
                        ratio[which],
                        s=size,
                        color=color,
                        alpha=0.5,
                        linewidths=0,
                        rasterized=True,
                    )
                ax.annotate(str(block["top"][0]), (number, ratio.max()), (0, 4), textcoords="offset points",
                            ha="center", fontsize=7.5)  # fmt: skip
            ax.axhline(ROGUE, color=MUTED, linewidth=1, linestyle=LINE)
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
            _blocks_axis(ax, model)
        drawn.axes[0, 0].set_ylabel("variance / mean of the block")
    return drawn.markup


def _dimensions(study: Figures, number: int, folder: Path) -> str:
    """Mean value of each class by dimension, a panel a block; those with most variance are named."""
    model, labels = study["models"][number], study["examples"]["labels"]
    rows = -(-model["layers"] // 2)
    with drawing(f"geometry-dimensions-{number}", 0.7 + 1.35 * rows, rows, 2, folder, sharex=True) as drawn:
        for ax, (layer, block) in zip(drawn.axes.flat, enumerate(model["blocks"]), strict=False):
            spread, means = np.sqrt(np.array(block["variance"], float)), np.array(block["means"], float)
            middle = means.mean(axis=0)
            ax.fill_between(range(len(spread)), middle - spread, middle + spread, color=MUTED, alpha=0.35, linewidth=0)
            for label, values, color in zip(labels, means, COLORS, strict=False):
                ax.plot(values, color=color, linewidth=0.8, label=plain(label))
            for dimension in block["top"][:NAMED]:
                ax.axvline(dimension, color=INK, linewidth=0.7, alpha=0.45, zorder=0)
                ax.text(dimension, 1.0, str(dimension), transform=ax.get_xaxis_transform(), fontsize=7, ha="center")
            ax.grid(visible=False)
            ax.set_title(_block_name(layer, model), loc="left", fontsize=9, pad=8)
            ax.margins(x=0)
        for ax in drawn.axes.flat[model["layers"] :]:
            ax.set_visible(False)
        handles, names = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, names, loc="outside upper right", ncols=8, fontsize=8.5)
        drawn.figure.suptitle(plain(model["name"]), x=0.01, ha="left", fontsize=10)
    return drawn.markup


def _overlap(pairs: Sequence[Figures], folder: Path) -> str:
    """Dimensions with most variance that two models share, block by block."""
    with drawing("geometry-overlap", 2.8, folder=folder) as drawn:
        ax = drawn.axes[0, 0]
        for pair, color in zip(pairs, COLORS, strict=False):
            ax.plot(pair["shares"], "o-", color=color, label=plain(" and ".join(pair["models"])), markersize=5)
        ax.axhline(pairs[0]["chance"], color=MUTED, linewidth=1, linestyle=LINE, label="chance")
        ax.set_ylim(-0.03, 1.03)
        ax.set_xticks(range(len(pairs[0]["shares"])))
        ax.set_xlabel("block (0: embeddings)")
        ax.set_ylabel("shared of the top ten")
        drawn.figure.legend(loc="outside upper center", ncols=4, fontsize=8.5)
    return drawn.markup


# ---- classes -----------------------------------------------------------------------------------------------------


def _blockwise(study: Figures, folder: Path) -> str:
    """Accuracy by block: of the one dimension with most variance, of all by ridge regression, of the head."""
    models = study["models"]
    with drawing("geometry-threshold", 3.2, 1, len(models), folder, sharey=True) as drawn:
        for ax, model in zip(drawn.axes[0], models, strict=True):
            blocks = model["blocks"]
            ax.plot([block["linear"] for block in blocks], "o-", color=COLORS[0], markersize=4.5,
                    label="all dimensions, ridge regression fitted here")  # fmt: skip
            if blocks[0]["threshold"]:
                ax.plot([block["threshold"]["accuracy"] for block in blocks], "o-", color=COLORS[1], markersize=4.5,
                        label="the dimension with most variance, 1-D SVM")  # fmt: skip
            if model["head"]:
                ax.plot(len(blocks) - 1, model["head"]["accuracy"], "D", color=INK, markersize=7, label="trained head")
            ax.axhline(study["examples"]["majority"], color=MUTED, linewidth=1, linestyle=LINE, label="largest class")
            _blocks_axis(ax, model)
        drawn.axes[0, 0].set_ylabel("accuracy")
        known = {label: handle for ax in drawn.axes[0] for handle, label in zip(*ax.get_legend_handles_labels(),
                                                                               strict=True)}  # fmt: skip
        drawn.figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=4, fontsize=8.5)
    return drawn.markup


def _values(study: Figures, folder: Path) -> str:
    """The last block's dimension with most variance: its values by class, and the threshold."""
    models = study["models"]
    with drawing("geometry-values", 2.8, 1, len(models), folder) as drawn:
        for ax, model in zip(drawn.axes[0], models, strict=True):
            found = model["blocks"][-1]["threshold"]
            every = np.concatenate([np.array(values, float) for values in found["values"]])
            bins = np.linspace(every.min(), every.max(), 41)
            for label, values, color in zip(study["examples"]["labels"], found["values"], COLORS, strict=False):
                ax.hist(values, bins, color=color, alpha=0.5, label=plain(label), density=True)
            if found["at"] is not None and bins[0] < found["at"] < bins[-1]:
                ax.axvline(found["at"], color=INK, linewidth=1.2)
            ax.set_title(f"{plain(model['name'])}: {100 * found['accuracy']:.1f} %", loc="left", fontsize=9.5)
            ax.set_xlabel(f"dimension {found['dimension']}")
            ax.set_yticks([])
        handles, names = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, names, loc="outside upper center", ncols=8, fontsize=8.5)
    return drawn.markup


def _ablation(study: Figures, folder: Path) -> str:
    """Accuracy of each head with k dimensions set to zero."""
    models = [model for model in study["models"] if model["head"]]
    with drawing("geometry-ablation", 3.4, 1, len(models), folder, sharey=True) as drawn:
        for ax, model in zip(drawn.axes[0], models, strict=True):
            curve = model["head"]["ablation"]
            ax.fill_between(curve["k"], curve["low"], curve["high"], color=COLORS[7], alpha=0.18, linewidth=0)
            for key, color, label in (("top", COLORS[1], "highest variance"), ("bottom", COLORS[0], "lowest variance"),
                                      ("random", COLORS[7], "random, mean and range")):  # fmt: skip
                ax.plot(curve["k"], curve[key], "o-", color=color, label=label, markersize=3.5, linewidth=1.3)
            ax.axhline(study["examples"]["majority"], color=MUTED, linewidth=1, linestyle=LINE, label="largest class")
            ax.set_xscale("symlog", linthresh=1)
            ax.set_xlim(0, curve["k"][-1])
            ax.set_xticks(ticks := [k for k in (0, 1, 4, 16, 64, 256, 1024, 4096) if k <= curve["k"][-1]],
                          [f"{k}" for k in ticks])  # fmt: skip
            ax.minorticks_off()
            ax.set_title(plain(model["name"]), loc="left", fontsize=10)
            ax.set_xlabel(f"dimensions set to zero, of {model['hidden_size']}")
        drawn.axes[0, 0].set_ylabel("accuracy of the trained head")
        handles, names = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=8.5)
    return drawn.markup


# ---- space -------------------------------------------------------------------------------------------------------


def _isotropy(models: Sequence[Figures], folder: Path) -> str:
    """Average cosine and IsoScore by block; dashed: of the mean over tokens."""
    panels = {"cosine": "average cosine", "iso_score": "IsoScore"}
    with drawing("geometry-isotropy", 3.2, 1, 2, folder) as drawn:
        for ax, (key, title) in zip(drawn.axes[0], panels.items(), strict=True):
            for model, color in zip(models, COLORS, strict=False):
                for pooled, style in (("summary", "o-"), ("mean", "--")):
                    values = np.array([block[key][pooled] for block in model["blocks"]], float)
                    label = plain(model["name"]) if pooled == "summary" else None
                    ax.plot(values, style, color=color, label=label, markersize=4.5, linewidth=1.4)
            ax.set_title(title, loc="left", fontsize=10)
            ax.set_xlabel("block (0: embeddings)")
            ax.set_xticks(range(max(model["layers"] for model in models)))
            ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
        handles, names = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, names, loc="outside upper center", ncols=8, fontsize=8.5)
    return drawn.markup


def _tsne(study: Figures, number: int, folder: Path) -> str:
    """t-SNE of a model's blocks, coloured by class."""
    blocks = study["models"][number]["blocks"]
    return _grid(study, number, folder, "tsne", [(block["tsne"], "") for block in blocks])


def _pca(study: Figures, number: int, folder: Path) -> str:
    """First two principal components of a model's blocks, and their share of the variance."""
    found = []
    for block in study["models"][number]["blocks"]:
        share = sum(part or 0 for part in block["pca"]["shares"])
        found.append((block["pca"]["places"], f", {100 * share:.0f} %"))
    return _grid(study, number, folder, "pca", found)


def _grid(study: Figures, number: int, folder: Path, kind: str, found: Sequence[tuple[Any, str]]) -> str:
    model, classes = study["models"][number], np.array(study["points"]["classes"])
    rows = -(-len(found) // COLUMNS)
    columns = -(-len(found) // rows)
    with drawing(f"geometry-{kind}-{number}", 0.5 + 9.6 / columns * rows, rows, columns, folder) as drawn:
        for ax, (layer, (places, more)) in zip(drawn.axes.flat, enumerate(found), strict=False):
            at = np.array(places, float)
            for label, name in enumerate(study["examples"]["labels"]):
                mine = at[classes == label]
                ax.scatter(mine[:, 0], mine[:, 1], s=6, color=COLORS[label % len(COLORS)], alpha=0.6, linewidths=0,
                           label=plain(name), rasterized=True)  # fmt: skip
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(_block_name(layer, model) + more, loc="left", fontsize=9, pad=2)
        for ax in drawn.axes.flat[len(found) :]:
            ax.set_visible(False)
        handles, names = drawn.axes[0, 0].get_legend_handles_labels()
        drawn.figure.legend(handles, names, loc="outside upper right", ncols=8, fontsize=8.5, markerscale=2)
        drawn.figure.suptitle(plain(model["name"]), x=0.01, ha="left", fontsize=10)
    return drawn.markup


def _block_name(layer: int, model: Figures) -> str:
    if layer == 0:
        return "embeddings"
    return f"block {layer}" + (", final norm" if layer == model["layers"] - 1 else "")


def _blocks_axis(ax: Any, model: Figures) -> None:
    every = 1 if model["layers"] <= 13 else 4
    ax.set_xticks(range(0, model["layers"], every))
    ax.set_title(plain(model["name"]), loc="left", fontsize=10)
    ax.set_xlabel("block (0: embeddings)")
