"""Prompts: shots with their labels in an order, then the question, answered by True or False."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megatron_nlg.evaluation.hans.draws import Draw
from megatron_nlg.evaluation.hans.reader import Example
from megatron_nlg.evaluation.shared.units import Unit

FALSE, TRUE = " False", " True"
CONTENT_FREE = ("N/A", "", "[MASK]")
"""In place of premise and hypothesis (Zhao et al. 2021, contextual calibration)."""
SHOT_SETS = 16
"""Different draws of shots at most, each computed once: examples of each heuristic and half take them in turns."""


@dataclass(frozen=True)
class Condition:
    """How the question is put."""

    shots: int
    labels: str = "true"
    """true or shuffled: the shots' own labels, or those in a random order."""
    order: int = 0
    """Of the same shots; 0 is the first."""

    @property
    def name(self) -> str:
        """Short, and unique."""
        return f"{self.shots}-{self.labels}-{self.order}"

    def __str__(self) -> str:
        text = f"{self.shots} shot{'' if self.shots == 1 else 's'}"
        text += ", shuffled labels" if self.labels == "shuffled" else ""
        return text + (f", order {self.order + 1}" if self.order else "")


def conditions(shots: Sequence[int], orders: int, shuffled: bool) -> list[Condition]:
    """All that a study asks: each number of shots, then the variants of those that have any."""
    out = [Condition(k) for k in shots]
    out += [Condition(k, "shuffled") for k in shots if k and shuffled]
    return out + [Condition(k, "true", order) for k in shots if k > 1 for order in range(1, orders)]


def question(premise: str, hypothesis: str) -> str:
    """GPT-3's form for entailment (Brown et al. 2020, appendix G)."""
    return f"{premise}\nQuestion: {hypothesis} True or False?\nAnswer:"


def examples_shown(condition: Condition, pool: Sequence[Example], number: int, seed: int) -> str:
    """The shots of draw `number`, each with its answer and an empty line."""
    if not condition.shots:
        return ""
    chance = random.Random(f"{seed} shots {number} {condition.shots}")
    halves = [[e for e in pool if e.entailed is label] for label in (False, True)]
    first = chance.randrange(2)  # of an odd number, one label has one more
    chosen = [e for i in (first, 1 - first) for e in chance.sample(halves[i], (condition.shots + (i == first)) // 2)]
    chance.shuffle(chosen)
    labels = [example.entailed for example in chosen]
    if condition.labels == "shuffled":
        other = random.Random(f"{seed} labels {number} {condition.shots}")
        labels = other.sample(labels, len(labels)) if len(labels) > 1 else [other.random() < 0.5]
    places = list(range(len(chosen)))
    if condition.order:
        random.Random(f"{seed} order {number} {condition.order}").shuffle(places)
    return "".join(
        f"{question(chosen[i].premise, chosen[i].hypothesis)}{TRUE if labels[i] else FALSE}\n\n" for i in places
    )


def units(drawn: Draw, asked: Sequence[Condition], seed: int) -> Iterator[Unit]:
    """What is scored: for each question the answers False and True."""
    cells = Counter((example.heuristic, example.entailed) for example in drawn.asked)
    used = min(SHOT_SETS, max(cells.values()))
    for condition in asked:
        sets = used if condition.shots else 1
        shown = [examples_shown(condition, drawn.shots, number, seed) for number in range(sets)]
        for part in ("asked", "held_out", "controls"):
            turns: Counter[tuple[str, bool]] = Counter()
            for example in getattr(drawn, part):
                # Not by the place in the file: what a draw does to the answers must meet both halves alike.
                cell = (example.heuristic, example.entailed)
                number = turns[cell] % len(shown)
                turns[cell] += 1
                about = {"part": part, **_about(example)}
                text = shown[number] + question(example.premise, example.hypothesis)
                yield _unit(condition, number, f"{part}/{example.name}", text, about)
        for number, before in enumerate(shown):
            for place, text in enumerate(CONTENT_FREE):
                about = {"part": "content_free", "text": text}
                yield _unit(condition, number, f"content_free/{number}/{place}", before + question(text, text), about)


def _unit(condition: Condition, number: int, key: str, prompt: str, about: dict[str, Any]) -> Unit:
    row = {"condition": asdict(condition), "set": number} | about
    return Unit(f"{condition.name}/{key}", ((prompt, FALSE), (prompt, TRUE)), row)


def _about(example: Example) -> dict[str, Any]:
    return asdict(example)
