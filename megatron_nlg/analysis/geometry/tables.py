"""The numbers of a study as CSV, one row an observation."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from data_prep.files import make_folder, write_text

Row = tuple[Any, ...]


def write_tables(study: Mapping[str, Any], folder: Path) -> None:
    """cka.csv, blocks.csv, dimensions.csv, ablation.csv, overlap.csv and projections.csv, each whole or not there."""
    make_folder(folder)
    for name, heads, rows in (
        ("cka", ("pooling", "estimator", "model_a", "block_a", "model_b", "block_b", "cka"), _cka(study)),
        ("blocks", ("model", "block", *_KEYS), _blocks(study)),
        ("dimensions", ("model", "block", "dimension", "variance", *_means(study)), _dimensions(study)),
        ("ablation", ("model", "k", "top", "bottom", "random", "low", "high"), _ablation(study)),
        ("overlap", ("model_a", "model_b", "block", "share", "chance"), _overlap(study)),
        ("projections", ("model", "block", "example", "class", "pca_1", "pca_2", "tsne_1", "tsne_2"), _places(study)),
    ):
        write_text(folder / f"{name}.csv", _csv(heads, rows))


_KEYS = (
    "top_dimension", "top_share", "rogue", "cosine_summary", "cosine_mean", "iso_score_summary", "iso_score_mean",
    "threshold_dimension", "threshold", "threshold_accuracy", "linear_accuracy",
)  # fmt: skip


def _csv(heads: Iterable[str], rows: Iterable[Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return out.getvalue()


def _cka(study: Mapping[str, Any]) -> Iterator[Row]:
    blocks = study["blocks"]
    for pooled, estimators in study["cka"].items():
        for estimator, values in estimators.items():
            for i, j in product(range(len(blocks)), repeat=2):
                yield (pooled, estimator, *blocks[i], *blocks[j], values[i][j])


def _blocks(study: Mapping[str, Any]) -> Iterator[Row]:
    for model in study["models"]:
        for number, block in enumerate(model["blocks"]):
            threshold = block["threshold"] or {"dimension": None, "at": None, "accuracy": None}
            yield (
                model["name"], number, block["top"][0], block["top_share"], " ".join(map(str, block["rogue"])),
                block["cosine"]["summary"], block["cosine"]["mean"],
                block["iso_score"]["summary"], block["iso_score"]["mean"],
                threshold["dimension"], threshold["at"], threshold["accuracy"], block["linear"],
            )  # fmt: skip


def _means(study: Mapping[str, Any]) -> list[str]:
    return [f"mean_of_{label}" for label in study["examples"]["labels"]]


def _dimensions(study: Mapping[str, Any]) -> Iterator[Row]:
    for model in study["models"]:
        for number, block in enumerate(model["blocks"]):
            for dimension, values in enumerate(zip(block["variance"], *block["means"], strict=True)):
                yield (model["name"], number, dimension, *values)


def _ablation(study: Mapping[str, Any]) -> Iterator[Row]:
    for model in study["models"]:
        if model["head"]:
            curve = model["head"]["ablation"]
            keys = ("top", "bottom", "random", "low", "high")
            for k, *values in zip(curve["k"], *(curve[key] for key in keys), strict=True):
                yield (model["name"], int(k), *values)


def _overlap(study: Mapping[str, Any]) -> Iterator[Row]:
    for pair in study["overlap"]:
        for number, share in enumerate(pair["shares"]):
            yield (*pair["models"], number, share, pair["chance"])


def _places(study: Mapping[str, Any]) -> Iterator[Row]:
    points = study["points"]
    for model in study["models"]:
        for number, block in enumerate(model["blocks"]):
            places = zip(points["examples"], points["classes"], block["pca"]["places"], block["tsne"], strict=True)
            for example, label, pca, tsne in places:
                yield (model["name"], number, example, study["examples"]["labels"][label], *pca, *tsne)
