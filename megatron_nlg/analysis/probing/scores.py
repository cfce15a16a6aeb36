"""Accuracy and F1 of probes, and the labels of control tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def accuracy(predicted: Tensor, right: Tensor) -> float:
    """Share of right classes."""
    return float((predicted == right).double().mean())


def macro_f1(predicted: Tensor, right: Tensor, classes: int) -> float:
    """Mean over the classes that occur, in truth or answer, of 2 TP / (2 TP + FP + FN)."""
    counts = torch.bincount(right * classes + predicted, minlength=classes * classes).view(classes, classes).double()
    both = counts.sum(dim=0) + counts.sum(dim=1)
    return float((2 * counts.diag()[both > 0] / both[both > 0]).mean())


def majority(train: Tensor, test: Tensor) -> float:
    """Accuracy of always saying the commonest class."""
    return accuracy(torch.bincount(train).argmax().expand(len(test)), test)


def control_labels(types: Sequence[str], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Random labels, one a type, drawn as the true ones are distributed (Hewitt and Liang 2019).

    A type's label depends on it and the seed alone. What a probe is better by, its selectivity, it does not owe to
    memory of types.
    """
    spread = np.sort(labels)
    drawn = {name: int(spread[_uniform(f"{seed} {name}", len(spread))]) for name in set(types)}
    return np.array([drawn[name] for name in types], np.int64)


def _uniform(text: str, below: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") % below
