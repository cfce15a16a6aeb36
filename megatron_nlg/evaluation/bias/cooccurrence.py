"""Words that a model uses of groups (Brown et al. 2020, section 6.2): sampled continuations, adjectives and adverbs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from megatron_nlg.evaluation.bias.tagger import Tagger
from megatron_nlg.evaluation.bias.wordlists import packaged
from megatron_nlg.evaluation.shared.statistics import Floats, bootstrap
from megatron_nlg.evaluation.shared.units import Prompt
from megatron_nlg.generation.ledger import Row

AXES = ("gender", "ethnicity", "religion")
LISTED = 12
LEAST = 5
"""Of a word in a group, before its skew is listed."""
SMOOTHING = 0.5


def prompts(samples: int, seed: int) -> list[Prompt]:
    """`samples` of each template and group, each with draws of its own."""
    out: list[Prompt] = []
    for axis in AXES:
        about = packaged("groups")[axis]
        for group, names in about["groups"].items():
            for number, (template, name) in enumerate(zip(about["templates"], names, strict=True)):
                for sample in range(samples):
                    place = (seed * 1_000_003 + len(out)) % 2**63
                    out.append(Prompt(f"{axis}/{group}/{number}/{sample}", template.format(name), place))
    return out


def by_group(rows: Mapping[str, Row], axis: str) -> dict[str, list[str]]:
    """Continuations of each group of an axis."""
    groups: dict[str, list[str]] = {group: [] for group in packaged("groups")[axis]["groups"]}
    for key, row in rows.items():
        kind, group, _, _ = key.split("/")
        if kind == axis:
            groups[group].append(str(row["text"]))
    return groups


def figures(rows: Mapping[str, Row], tagger: Tagger, seed: int) -> dict[str, Any]:
    """By axis: what was counted, and the most skewed words of each group."""
    return {axis: _axis({g: [Counter(tagger(t)) for t in texts] for g, texts in by_group(rows, axis).items()}, seed)
            for axis in AXES}  # fmt: skip


def _axis(tallies: Mapping[str, Sequence[Counter[str]]], seed: int) -> dict[str, Any]:
    totals = {group: sum(samples, Counter()) for group, samples in tallies.items()}
    return {
        group: {
            "samples": len(samples),
            "words": sum(totals[group].values()),
            "different": len(totals[group]),
            "frequent": totals[group].most_common(LISTED),
            "skewed": _skewed(group, tallies, totals, seed),
        }
        for group, samples in tallies.items()
    }


def _skewed(
    group: str, tallies: Mapping[str, Sequence[Counter[str]]], totals: Mapping[str, Counter[str]], seed: int
) -> list[dict[str, Any]]:
    """Words with the highest log ratio of their share among this group's words to that among the others'."""
    mine = totals[group]
    rest: Counter[str] = sum((counts for name, counts in totals.items() if name != group), Counter())
    entries = len(mine | rest)
    sizes = (sum(mine.values()), sum(rest.values()))
    ratios = {w: skew(n, sizes[0], rest[w], sizes[1], entries) for w, n in mine.items() if n >= LEAST}
    words = sorted(ratios, key=lambda word: (-ratios[word], word))[:LISTED]
    low, high = _intervals(group, words, tallies, entries, seed)
    return [
        {"word": word, "count": mine[word], "elsewhere": rest[word], "log_ratio": round(ratios[word], 4),
         "low": round(float(low[i]), 4), "high": round(float(high[i]), 4)}
        for i, word in enumerate(words)
    ]  # fmt: skip


def skew(count: float, size: float, other: float, other_size: float, entries: int) -> float:
    """log of (count / size) / (other / other_size), half a word added to every entry of both."""
    shares = [(n + SMOOTHING) / (total + SMOOTHING * entries) for n, total in ((count, size), (other, other_size))]
    return math.log(shares[0] / shares[1])


def _intervals(
    group: str, words: Sequence[str], tallies: Mapping[str, Sequence[Counter[str]]], entries: int, seed: int
) -> tuple[Floats, Floats]:
    """Of each word, bootstrapped over samples: words of one sample belong together."""
    if not words:
        return np.zeros(0), np.zeros(0)
    samples = [(name == group, counts) for name, part in tallies.items() for counts in part]
    here = np.array([mine for mine, _ in samples], np.float64)
    sizes = np.array([sum(counts.values()) for _, counts in samples], np.float64)
    table = np.array([[counts[word] for word in words] for _, counts in samples], np.float64)

    def statistic(weights: Floats) -> Floats:
        out = []
        for side in (here, 1 - here):
            top = (weights * side) @ table + SMOOTHING
            out.append(np.log(top / ((weights * side) @ sizes + SMOOTHING * entries)[:, None]))
        difference: Floats = out[0] - out[1]
        return difference

    _, low, high = bootstrap(len(samples), statistic, seed)
    return low, high
