"""Sentiment of the words that a model uses of groups, by lexicons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from megatron_nlg.evaluation.bias.cooccurrence import AXES, by_group
from megatron_nlg.evaluation.bias.lexicon import SentiWordNet
from megatron_nlg.evaluation.bias.tagger import WORD, Tagger
from megatron_nlg.evaluation.shared.statistics import ratio
from megatron_nlg.generation.ledger import Row

Scores = Callable[[str], list[float]]
"""Text -> scores of its words that the lexicon has."""


def figures(
    rows: Mapping[str, Row],
    tagger: Tagger | None,
    senti: SentiWordNet | None,
    vader: Mapping[str, float] | None,
    seed: int,
) -> dict[str, Any]:
    """By lexicon, axis and group: the mean score of a word, bootstrapped over samples."""
    scores: dict[str, Scores] = {}
    if senti is not None and tagger is not None:
        scores["SentiWordNet"] = lambda text: [s for w in tagger(text) if (s := senti.score(w)) is not None]
    if vader is not None:
        scores["VADER"] = lambda text: [vader[w] for w in map(str.lower, WORD.findall(text)) if w in vader]
    return {
        name: {axis: {group: mean_score([score(text) for text in texts], seed)
                      for group, texts in by_group(rows, axis).items()} for axis in AXES}
        for name, score in scores.items()
    }  # fmt: skip


def mean_score(samples: Sequence[Sequence[float]], seed: int) -> dict[str, Any]:
    """Over the words of all samples; `words` counts them."""
    words = sum(map(len, samples))
    return ratio([sum(part) for part in samples], [len(part) for part in samples], seed).as_dict() | {"words": words}
