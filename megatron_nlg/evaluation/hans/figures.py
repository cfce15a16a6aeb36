"""Figures of a HANS study from its rows: answer bias and reliance on heuristics, told apart.

The score of a question is its log-odds, log P(True) - log P(False); the model says True where they are above 0.

- Answer bias moves all log-odds alike. A moved threshold undoes it: it shows as what accuracy gains thereby, and as
  log-odds other than 0 of questions without content.
- Reliance on a heuristic lifts what looks entailed by overlap and is not. No threshold undoes it: it shows as an area
  under the curve near 1/2 (or below) within a heuristic, while the same non-entailed questions are well above controls
  whose hypothesis has little to do with the premise.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from megatron_nlg.evaluation.hans.prompts import Condition
from megatron_nlg.evaluation.hans.reader import HEURISTICS
from megatron_nlg.evaluation.shared.statistics import Floats, auc, mean, share
from megatron_nlg.generation.ledger import Row

THRESHOLDS = 121
BINS = 40


def figures(rows: Iterable[Row], conditions: Sequence[Condition], seed: int) -> list[dict[str, Any]]:
    """One object a condition, in their order."""
    parts: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        parts[Condition(**row["condition"]).name][row["part"]].append(row)
    return [_condition(condition, parts[condition.name], seed) for condition in conditions]


def log_odds(rows: Sequence[Row]) -> Floats:
    """[rows]."""
    return np.array([row["logprobs"][1] - row["logprobs"][0] for row in rows])


def _condition(condition: Condition, parts: dict[str, list[Row]], seed: int) -> dict[str, Any]:
    asked, odds = parts["asked"], log_odds(parts["asked"])
    truth = np.array([row["entailed"] for row in asked])
    held, held_truth = log_odds(parts["held_out"]), np.array([row["entailed"] for row in parts["held_out"]], bool)
    free = content_free_odds(parts["content_free"])
    moved = best_threshold(held, held_truth)
    shift = np.array([free[row["set"]] for row in asked])
    controls = log_odds(parts["controls"])
    at_zero, at_moved = correct(odds, truth, 0.0), correct(odds, truth, moved)
    return {
        "condition": {"shots": condition.shots, "labels": condition.labels, "order": condition.order},
        "name": str(condition),
        "examples": len(asked),
        "accuracy": share(at_zero.sum(), len(asked)).as_dict(),
        "accuracy_entailed": share(at_zero[truth].sum(), int(truth.sum())).as_dict(),
        "accuracy_non_entailed": share(at_zero[~truth].sum(), int((~truth).sum())).as_dict(),
        "calibrated": share(correct(odds - shift, truth, 0.0).sum(), len(asked)).as_dict(),
        "held_out": share(at_moved.sum(), len(asked)).as_dict() | {"threshold": moved},
        "auc": auc(odds[truth], odds[~truth]).as_dict(),
        "answer_bias": {
            "said_true": share(float((odds > 0).sum() + 0.5 * (odds == 0).sum()), len(asked)).as_dict(),
            "said_true_of_controls": share(float((controls > 0).sum()), len(controls)).as_dict(),
            "content_free_log_odds": mean([*free.values()], seed).as_dict(),
            "gain_of_moved_threshold": mean(at_moved - at_zero, seed).as_dict(),
        },
        "reliance": auc(odds[~truth], controls).as_dict(),
        "by_heuristic": {h: _group(asked, odds, truth, moved, controls, h) for h in HEURISTICS},
        "by_subcase": {
            name: _subcase(asked, odds, at_zero, at_moved, name) for name in sorted({row["subcase"] for row in asked})
        },
        "threshold_curve": threshold_curve(asked, odds, truth),
        "histogram": histogram(odds, truth, controls),
    }


def correct(odds: Floats, truth: Any, threshold: float) -> Floats:
    """1 where the answer is right, 0 where not, 1/2 on the threshold itself."""
    right: Floats = np.where(odds == threshold, 0.5, ((odds > threshold) == truth).astype(np.float64))
    return right


def best_threshold(odds: Floats, truth: Any) -> float:
    """The middle of the thresholds with most right answers; 0 when that is among them or nothing is held out."""
    if not len(odds):
        return 0.0
    values = np.unique(odds)
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    order = np.sort(odds[truth]), np.sort(odds[~truth])
    right = len(order[0]) - np.searchsorted(order[0], cuts, "right") + np.searchsorted(order[1], cuts, "left")
    best = cuts[right == right.max()]
    return float(best[len(best) // 2]) if correct(odds, truth, 0.0).sum() < right.max() else 0.0


def content_free_odds(rows: Sequence[Row]) -> dict[int, float]:
    """Log-odds of the mean probabilities over questions without content, by draw of shots."""
    shares: dict[int, list[float]] = defaultdict(list)
    for row, odds in zip(rows, log_odds(rows), strict=True):
        shares[row["set"]].append(1 / (1 + math.exp(-float(np.clip(odds, -500, 500)))))
    means = {number: float(np.clip(np.mean(values), 1e-12, 1 - 1e-12)) for number, values in shares.items()}
    return {number: math.log(p / (1 - p)) for number, p in sorted(means.items())}


def _group(
    rows: Sequence[Row], odds: Floats, truth: Any, moved: float, controls: Floats, heuristic: str
) -> dict[str, Any]:
    mine = np.array([row["heuristic"] == heuristic for row in rows])
    out: dict[str, Any] = {}
    for name, which in (("all", mine), ("entailed", mine & truth), ("non_entailed", mine & ~truth)):
        total = int(which.sum())
        out[name] = share(correct(odds[which], truth[which], 0.0).sum(), total).as_dict()
        out[f"{name}_moved"] = share(correct(odds[which], truth[which], moved).sum(), total).as_dict()
    out["auc"] = auc(odds[mine & truth], odds[mine & ~truth]).as_dict()
    out["reliance"] = auc(odds[mine & ~truth], controls).as_dict()
    return out


def _subcase(rows: Sequence[Row], odds: Floats, at_zero: Floats, at_moved: Floats, name: str) -> dict[str, Any]:
    mine = np.array([row["subcase"] == name for row in rows])
    first = next(row for row in rows if row["subcase"] == name)
    return {
        "heuristic": first["heuristic"],
        "entailed": first["entailed"],
        "accuracy": share(at_zero[mine].sum(), int(mine.sum())).as_dict(),
        "accuracy_moved": share(at_moved[mine].sum(), int(mine.sum())).as_dict(),
        "log_odds": round(float(odds[mine].mean()), 4),
    }


def threshold_curve(rows: Sequence[Row], odds: Floats, truth: Any) -> dict[str, Any]:
    """Accuracy at thresholds over the middle 99 % of the log-odds and 0: of all, of each half and each heuristic."""
    low, high = (min(0.0, float(np.quantile(odds, 0.005))), max(0.0, float(np.quantile(odds, 0.995))))
    cuts = np.unique(np.append(np.linspace(low, high + 1e-9, THRESHOLDS), 0.0))
    heuristics = np.array([row["heuristic"] for row in rows])
    groups = {"all": np.ones(len(odds), bool), "entailed": truth, "non-entailed": ~truth}
    groups |= {h: heuristics == h for h in HEURISTICS}
    curves = {
        name: [round(float(correct(odds[which], truth[which], cut).mean()), 4) for cut in cuts]
        for name, which in groups.items()
        if which.any()
    }
    return {"thresholds": [round(float(cut), 4) for cut in cuts], "accuracy": curves}


def histogram(odds: Floats, truth: Any, controls: Floats) -> dict[str, Any]:
    """Counts of log-odds in equal bins over all but the outermost 1 %, which the outer bins take."""
    every = np.concatenate([odds, controls])
    low, high = float(np.quantile(every, 0.005)), float(np.quantile(every, 0.995))
    edges = np.linspace(min(low, high - 1e-6), high, BINS + 1)
    counts = {
        name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
        for name, values in (("entailed", odds[truth]), ("non-entailed", odds[~truth]), ("controls", controls))
    }
    return {"edges": [round(float(edge), 4) for edge in edges], "counts": counts}
