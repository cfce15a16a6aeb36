"""Measurements -> good nodes, and bad ones with the reason. Pure Python."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from megatron_nlg.training.preflight.pairs import Pair

CLOCK_SECONDS = 5.0
"""A clock that is farther off than this makes logs and time limits of no use."""


@dataclass
class Measured:
    """What all ranks have found."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    """Node -> what is wrong with it by its own account, or that it did not answer."""
    notes: list[str] = field(default_factory=list)
    """What could not be looked at."""
    gemm_tflops: dict[str, list[float]] = field(default_factory=dict)
    """Node -> rate of each of its ranks."""
    clocks: dict[str, float] = field(default_factory=dict)
    """Node -> its clock at one moment, s."""
    bandwidth: list[tuple[str, Pair, float | None]] = field(default_factory=list)
    """(within or across, nodes, bytes per second of their slowest pair of ranks; None where they did not meet)."""


@dataclass(frozen=True)
class Verdict:
    """Which nodes to train on."""

    good: list[str]
    bad: dict[str, str]
    """Node -> why not."""
    notes: list[str]
    """Slow links that neither end can be blamed for, and what could not be looked at."""
    measured: Measured

    def to_json(self) -> dict[str, Any]:
        """As the file that `launch` reads: `good`, `bad`, and all figures."""
        return {
            "good": self.good,
            "bad": self.bad,
            "notes": self.notes,
            "gemm_tflops": self.measured.gemm_tflops,
            "pairs": [
                {"kind": kind, "nodes": list(pair), "gigabytes_per_second": None if rate is None else rate / 1e9}
                for kind, pair, rate in self.measured.bandwidth
            ],
        }


def judge(measured: Measured, nodes: Sequence[str], slow: float) -> Verdict:
    """Nodes are bad by their own account, or when slower than `slow` times the median of all."""
    reasons: dict[str, list[str]] = {node: list(measured.problems.get(node, [])) for node in nodes}
    _clocks(measured.clocks, reasons)
    _compute(measured.gemm_tflops, slow, reasons)
    notes = [*measured.notes, *_links(measured.bandwidth, slow, reasons)]
    bad = {node: "; ".join(found) for node, found in reasons.items() if found}
    return Verdict([node for node in nodes if node not in bad], bad, notes, measured)


def _clocks(clocks: Mapping[str, float], reasons: dict[str, list[str]]) -> None:
    middle = statistics.median(clocks.values()) if clocks else 0.0
    for node, clock in clocks.items():
        if abs(clock - middle) > CLOCK_SECONDS:
            reasons[node].append(f"its clock is {clock - middle:+.1f} s off")


def _compute(rates: Mapping[str, Sequence[float]], slow: float, reasons: dict[str, list[str]]) -> None:
    middle = statistics.median(rate for found in rates.values() for rate in found) if rates else 0.0
    for node, found in rates.items():
        for local_rank, rate in enumerate(found):
            if rate < slow * middle:
                reasons[node].append(f"local rank {local_rank} computes {rate:.3g} TFLOP/s, the median is {middle:.3g}")


def _links(found: Sequence[tuple[str, Pair, float | None]], slow: float, reasons: dict[str, list[str]]) -> list[str]:
    """Blame the node that most slow or silent pairs have in common, and so on; what is left are slow links."""
    bad_pairs: list[tuple[str, Pair, float | None, float]] = []
    met = Counter[str]()
    for kind in dict.fromkeys(kind for kind, _, _ in found):
        rates = [rate for k, _, rate in found if k == kind and rate is not None]
        middle = statistics.median(rates) if rates else 0.0
        for k, pair, rate in found:
            if k == kind:
                met.update(pair)
                if rate is None or rate < slow * middle:
                    bad_pairs.append((kind, pair, rate, middle))
    while bad_pairs:
        count = Counter(node for _, pair, _, _ in bad_pairs for node in pair)
        worst, times = max(count.items(), key=lambda item: (item[1], item[1] / met[item[0]], item[0]))
        if times < 2 or 2 * times < met[worst]:
            break
        mine = [row for row in bad_pairs if worst in row[1]]
        bad_pairs = [row for row in bad_pairs if worst not in row[1]]
        if worst in reasons:
            reasons[worst].append(_slow_or_silent(worst, mine, met[worst]))
    return [
        f"{kind} leaves: {pair[0]} and {pair[1]} "
        + (
            "did not reach each other"
            if rate is None
            else f"exchange {rate / 1e9:.3g} GB/s, the median is {mid / 1e9:.3g}"
        )
        for kind, pair, rate, mid in bad_pairs
    ]


def _slow_or_silent(node: str, rows: Sequence[tuple[str, Pair, float | None, float]], met: int) -> str:
    silent = sum(rate is None for _, _, rate, _ in rows)
    if silent:
        return f"{silent} of {met} nodes did not reach it"
    share = statistics.median((rate or 0.0) / middle for _, _, rate, middle in rows)
    return f"{len(rows)} of {met} exchanges with other nodes run at {share:.0%} of the median"
