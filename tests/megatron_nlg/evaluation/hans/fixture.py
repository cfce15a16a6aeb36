"""A small file in HANS's published format, and models of planted behaviour in place of a real one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from megatron_nlg.evaluation.hans.draws import words
from megatron_nlg.evaluation.hans.reader import HEURISTICS
from megatron_nlg.evaluation.shared.units import Unit

NOUNS = [
    "doctor",
    "lawyer",
    "judge",
    "author",
    "actor",
    "artist",
    "banker",
    "senator",
    "student",
    "tourist",
    "manager",
    "athlete",
]
VERBS = ["advised", "thanked", "admired", "supported", "called", "helped", "avoided", "contacted"]
NAMES = ["gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
NAMES += ["sentence1", "sentence2", "pairID", "heuristic", "subcase", "template"]


def rows(each: int) -> list[dict[str, str]]:
    """`each` examples of every heuristic, half and two subcases."""
    chance = random.Random(0)
    out = []
    for heuristic in HEURISTICS:
        for label in ("entailment", "non-entailment"):
            for number in range(2 * each):
                a, b = chance.sample(NOUNS, 2)
                verb = chance.choice(VERBS)
                pair = (a, b) if label == "entailment" else (b, a)
                out.append(
                    dict.fromkeys(NAMES, "( x )")
                    | {
                        "gold_label": label,
                        "sentence1": f"The {a} {verb} the {b} .",
                        "sentence2": f"The {pair[0]} {verb} the {pair[1]} .",
                        "pairID": f"ex{len(out)}",
                        "heuristic": heuristic,
                        "subcase": f"{heuristic[0]}{label[0]}_{number % 2}",
                    }
                )
    return out


def write_hans(path: Path, each: int = 8) -> Path:
    """heuristics_evaluation_set.txt."""
    lines = ["\t".join(NAMES), *("\t".join(row[name] for name in NAMES) for row in rows(each))]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


Policy = Callable[[str, str, bool], float]
"""(premise, hypothesis, whether it follows) -> log-odds of True."""


def always_true(premise: str, hypothesis: str, follows: bool) -> float:
    return 3.0


def by_overlap(premise: str, hypothesis: str, follows: bool) -> float:
    return 4.0 * len(words(hypothesis) & words(premise)) - 4.0


def reader(premise: str, hypothesis: str, follows: bool) -> float:
    return 3.0 if follows else -3.0


def biased_reader(premise: str, hypothesis: str, follows: bool) -> float:
    return 5.0 if follows else 4.0 if premise else 4.5


def answered(units: Iterable[Unit], policy: Policy, noise: float = 0.3) -> list[dict[str, Any]]:
    """Rows of the study, had a model of that behaviour been asked."""
    chance = random.Random(1)
    out = []
    for unit in units:
        before, rest = unit.requests[0][0].rsplit("\nQuestion:", 1)
        premise = before.rsplit("\n", 1)[-1]
        hypothesis = rest.removesuffix(" True or False?\nAnswer:").strip()
        odds = policy(premise, hypothesis, bool(unit.about.get("entailed"))) + chance.gauss(0, noise)
        out.append({"key": unit.key, **unit.about, "logprobs": [-5.0, -5.0 + odds], "tokens": [1, 1]})
    return out
