"""A fabric in words: a line a level, what is oversubscribed, which switches have fewer below them than others."""

from __future__ import annotations

from collections import Counter

from megatron_nlg.planning.fabric import Fabric

NAMED = 4
"""Uneven switches that are named; of more, the range is told."""


def describe(fabric: Fabric) -> str:
    """A short table of the levels from the top down, uneven switches named, and what was assumed."""
    lines = [f"{len(fabric.nodes)} nodes of {fabric.gpus_per_node}, {len(fabric.levels)} levels of links, top first"]
    for level in range(len(fabric.levels) - 1, -1, -1):
        lines.append(_level(fabric, level))
        lines += [f"{'':10}{line}" for line in _uneven(fabric, level)]
    return "\n".join([*lines, *(f"note: {note}" for note in fabric.notes)])


def _level(fabric: Fabric, level: int) -> str:
    at = fabric.levels[level]
    count = len(fabric.members[level - 1]) if level else len(fabric.nodes) * fabric.gpus_per_node
    parts = [f"{at.name:10}{count:>6} ×", f"{_range(_own(fabric, level)):>14} GB/s each way"]
    if at.rails > 1:
        parts.append(f"in {at.rails} rails")
    if at.efficiency < 1:
        parts.append(f"{at.efficiency:.0%} of it reached")
    if at.latency_us:
        parts.append(f"{at.latency_us:g} µs")
    if level > 1 and (ratio := oversubscription(fabric, level)) is not None:
        parts.append(f"{ratio:.3g}:1 below")
    return "  ".join(parts)


def _own(fabric: Fabric, level: int) -> list[float]:
    own = fabric.uplinks[level - 1] if level and fabric.uplinks else None
    return list(own) if own is not None else [fabric.levels[level].bandwidth_gbs]


def _range(values: list[float]) -> str:
    return f"{min(values):,g}" if min(values) == max(values) else f"{min(values):,g} to {max(values):,g}"


def oversubscription(fabric: Fabric, level: int) -> float | None:
    """The most that the links below bring to a switch, over what it carries up; None where it carries all of it."""
    below = [0.0] * len(fabric.members[level - 1])
    under, own = _own(fabric, level - 1), _own(fabric, level)
    for i, parent in enumerate(fabric.above[level - 2]):
        below[parent] += under[i if len(under) > 1 else 0]
    ratios = [brought / own[i if len(own) > 1 else 0] for i, brought in enumerate(below)]
    return max(ratios) if max(ratios) > 1 else None


def _uneven(fabric: Fabric, level: int) -> list[str]:
    """How many of the level below hang on each switch: `20 × node on each`, or which have fewer."""
    if level < 2:
        return []
    names, what = fabric.members[level - 1], fabric.levels[level - 1].name
    counts = Counter(fabric.above[level - 2])
    sizes = Counter(counts.values()).most_common()
    usual = sizes[0][0]
    if len(sizes) == 1:
        return [f"{usual} × {what} on each"]
    rest = [f"{count} on {names[i]}" for i, count in sorted(counts.items()) if count != usual]
    if len(rest) > NAMED:
        return [f"uneven: {min(counts.values())} to {max(counts.values())} × {what} on each, most often {usual}"]
    return [f"uneven: {usual} × {what} on {sizes[0][1]} of them, {', '.join(rest)}"]
