"""All numbers of a geometry study, from the activations of its models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_nlg.analysis.geometry import dimensions
from megatron_nlg.analysis.geometry.activations import POOLINGS, Activations
from megatron_nlg.analysis.geometry.cka import full_cka, minibatch_cka
from megatron_nlg.analysis.geometry.examples import Examples
from megatron_nlg.analysis.geometry.isotropy import average_cosine, iso_score
from megatron_nlg.analysis.geometry.projection import pca, tsne
from megatron_nlg.analysis.geometry.threshold import fit

Figures = dict[str, Any]
DIGITS = 6


def steps(models: Sequence[Activations]) -> int:
    """What `figures` tells its progress in all."""
    return len(POOLINGS) + sum(model.layers for model in models)


def figures(
    models: Sequence[Activations],
    examples: Examples,
    batch: int,
    points: int,
    seed: int,
    progress: Callable[[int], None],
) -> Figures:
    """CKA of all pairs of blocks, then each model block by block; `progress` is told of each step."""
    shown = examples.shown
    drawn = shown
    if len(shown) > points:
        drawn = np.sort(np.random.default_rng(seed).choice(shown, points, replace=False))
    similar = {}
    for pooled in POOLINGS:
        # Those that are shown come first: a view of the mapped file, of which little is in memory at once.
        layers = [model.layer(number, pooled)[: len(shown)] for model in models for number in range(model.layers)]
        similar[pooled] = {
            "full": _rounded(full_cka(layers)),
            "minibatch": _rounded(minibatch_cka(layers, batch, seed)),
        }
        progress(1)
    return {
        "examples": _counts(examples),
        "points": {"examples": drawn.tolist(), "classes": examples.classes[drawn].tolist()},
        "blocks": [[model.name, number] for model in models for number in range(model.layers)],
        "cka": similar,
        "models": [_model(model, examples, drawn, seed, progress) for model in models],
        "overlap": [_overlap(a, b, examples) for a, b in combinations(models, 2) if a.array.shape == b.array.shape],
    }


def _counts(examples: Examples) -> Figures:
    held = examples.classes[examples.held]
    return {
        "shown": len(examples.shown),
        "fitted": len(examples.fitted),
        "held": len(examples.held),
        "labels": list(examples.labels),
        "majority": float(np.bincount(held).max() / len(held)),
    }


def _model(
    model: Activations, examples: Examples, drawn: NDArray[np.int64], seed: int, progress: Callable[[int], None]
) -> Figures:
    blocks = []
    for number in range(model.layers):
        blocks.append(_block(model, number, examples, drawn, seed))
        progress(1)
    about = {key: model.about[key] for key in ("step", "summary", "layers", "hidden_size", "longer")}
    return about | {"name": model.name, "blocks": blocks, "head": _head(model, examples, seed)}


def _block(model: Activations, number: int, examples: Examples, drawn: NDArray[np.int64], seed: int) -> Figures:
    values = np.asarray(model.layer(number))
    seen, classes = values[examples.shown], examples.classes[examples.shown]
    variance = dimensions.variances(seen)
    order = dimensions.by_variance(variance)
    plane, shares = pca(values[drawn])
    whole = np.asarray(model.layer(number, "mean"))[examples.shown]
    return {
        "variance": _rounded(variance),
        "means": [_rounded(seen[classes == c].mean(axis=0)) for c in range(len(examples.labels))],
        "top": order[: dimensions.TOP].tolist(),
        "top_share": _number(variance[order[0]] / variance.sum()),
        "rogue": dimensions.rogue(variance),
        "cosine": {"summary": _number(average_cosine(seen)), "mean": _number(average_cosine(whole))},
        "iso_score": {"summary": _number(iso_score(seen)), "mean": _number(iso_score(whole))},
        "threshold": _threshold(values, examples),
        "linear": _linear(values, examples),
        "pca": {"places": _rounded(plane), "shares": _rounded(shares)},
        "tsne": _rounded(tsne(values[drawn], seed)),
    }


def _threshold(values: NDArray[np.float32], examples: Examples) -> Figures | None:
    """The dimension with most variance alone, where there are two classes: its threshold and its accuracy."""
    if len(examples.labels) != 2:
        return None
    fitted, held = examples.fitted, examples.held
    dimension = int(dimensions.by_variance(dimensions.variances(values[fitted]))[0])
    found = fit(values[fitted, dimension], examples.classes[fitted])
    right = found.classes(values[held, dimension]) == examples.classes[held]
    return {
        "dimension": dimension,
        "at": None if found.at is None else _number(found.at),
        "above": int(found.slope > 0),
        "accuracy": float(right.mean()),
        "fitted_accuracy": float(
            (found.classes(values[fitted, dimension]) == examples.classes[fitted]).mean()
        ),
        "values": [_rounded(values[examples.shown][examples.classes[examples.shown] == c, dimension])
                   for c in range(2)],
    }  # fmt: skip


def _linear(values: NDArray[np.float32], examples: Examples) -> float:
    """Accuracy of ridge regression to the classes on all dimensions: what is there to be read, head or no head."""
    from sklearn.linear_model import RidgeClassifierCV

    fitted, held = examples.fitted, examples.held
    mean, scale = values[fitted].mean(axis=0), values[fitted].std(axis=0)
    standard = (values.astype(np.float64) - mean) / np.where(scale > 0, scale, 1)
    model = RidgeClassifierCV(alphas=np.logspace(0, 5, 6)).fit(standard[fitted], examples.classes[fitted])
    return float(model.score(standard[held], examples.classes[held]))


def _head(model: Activations, examples: Examples, seed: int) -> Figures | None:
    """The trained head and what dimensions are worth to it; None of a model without one, or one of other classes."""
    if model.head is None or model.head.labels != examples.labels:
        return None
    values = np.asarray(model.layer(model.layers - 1), np.float64)
    held, classes = values[examples.held], examples.classes[examples.held]
    variance = dimensions.variances(values[examples.fitted])
    curve = dimensions.ablation(held, classes, model.head, variance, seed)
    return {"accuracy": dimensions.accuracy(held, classes, model.head), "ablation": curve}


def _overlap(a: Activations, b: Activations, examples: Examples) -> Figures:
    """Of two models of one shape, block by block: the dimensions with most variance that they share."""
    shares = []
    for number in range(a.layers):
        one, other = (dimensions.variances(model.layer(number)[examples.shown]) for model in (a, b))
        shares.append(dimensions.overlap(one, other))
    top = min(dimensions.TOP, a.array.shape[2])
    return {"models": [a.name, b.name], "shares": shares, "chance": top / a.array.shape[2]}


def _number(value: float) -> float | None:
    """With DIGITS significant digits; None where there is none."""
    return None if not math.isfinite(value) else float(f"{value:.{DIGITS}g}")


def _rounded(values: NDArray[Any]) -> list[Any]:
    """Nested lists of numbers."""
    if values.ndim > 1:
        return [_rounded(part) for part in values]
    return [_number(float(value)) for value in values]
