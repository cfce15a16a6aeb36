"""Weights of sources by rule, and what they make of a budget of tokens: epochs and samples a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.recipe.blend import BlendRule


def weights(rule: BlendRule, given: Mapping[str, float], tokens: Mapping[str, int]) -> dict[str, float]:
    """Source -> weight: as `given`, by the sources' `tokens`, or by the rule's epochs. They need not sum to 1."""
    if rule.weights == "given":
        return dict(given)
    if rule.weights == "epochs":
        return {name: rule.epochs[name] * tokens[name] for name in given}
    largest = max(tokens.values())
    # Of the largest, so that no power overflows; 12 digits, so that the last one's rounding is in no file.
    return {name: float(f"{(tokens[name] / largest) ** (1 / rule.temperature):.12g}") for name in given}


def report(rule: BlendRule, weight: Mapping[str, float], tokens: Mapping[str, int]) -> dict[str, Any]:
    """What training on `rule.tokens` tokens (the corpus's own number when not given) reads of each source.

    Samples are those of the greedy rule of Megatron-core's blended dataset, to within one: it always takes the source
    that is furthest behind its share.
    """
    budget, total = rule.tokens or sum(tokens.values()), sum(weight.values())
    samples = -(-budget // rule.sequence_length)
    sources = {
        name: {
            "tokens": tokens[name],
            "share": round(weight[name] / total, 6),
            "epochs": round(weight[name] / total * budget / tokens[name], 4),
            "samples": round(weight[name] / total * samples),
            "tokens_read": round(weight[name] / total * budget),
        }
        for name in weight
    }
    return {"budget": budget, "samples": samples, "sequence_length": rule.sequence_length, "sources": sources}


HEADS = ("source", "tokens", "share", "epochs", "samples", "tokens read")


def cells(about: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A report's rows under HEADS, one a source."""
    return [
        (
            name,
            f"{row['tokens']:,}",
            f"{row['share']:.2%}",
            f"{row['epochs']:.2f}",
            f"{row['samples']:,}",
            f"{row['tokens_read']:,}",
        )
        for name, row in about["sources"].items()
    ]


def table(about: Mapping[str, Any]) -> str:
    """A report as lines of text."""
    rows = cells(about)
    widths = [max(len(row[i]) for row in [HEADS, *rows]) for i in range(len(HEADS))]
    lines = [f"{about['budget']:,} tokens, {about['samples']:,} samples of {about['sequence_length']:,}"]
    for first, *rest in [HEADS, *rows]:
        right = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    return "\n".join(lines)
