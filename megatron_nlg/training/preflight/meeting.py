"""The ranks' conversation, through a store that survives ranks that do not answer.

No process group spans all ranks: one that hangs or is missing would hang the rest. Everything passes through a
key-value store on the first node, every wait has a time-out, and only two ranks at a time are connected to each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from torch.distributed import DistStoreError
from torch.distributed.distributed_c10d import PrefixStore

from megatron_nlg.parallel.rendezvous import Rendezvous
from megatron_nlg.training.preflight.machine import disk_problems, gpu_problems, kernel_log, node_name, xid_problems
from megatron_nlg.training.preflight.pairs import Pair, rounds
from megatron_nlg.training.preflight.verdict import Measured, Verdict, judge

POLL_SECONDS = 0.05


class Measure(Protocol):
    """What a rank measures; see probe.Probe."""

    def gemm_tflops(self) -> float:
        """TFLOP/s."""

    def bandwidth(self, store: Any, first: bool) -> float:
        """Bytes per second."""


@dataclass(frozen=True)
class Wanted:
    """What is looked at, and how patiently."""

    folder: Path
    """The run folder."""
    gpus: int = 0
    """GPUs that a node must have."""
    leaves: tuple[tuple[str, ...], ...] = ()
    """Nodes by leaf switch, where known; nodes in none count as one more leaf."""
    most_rounds: int = 7
    """Rounds of pairs within leaves, and as many across."""
    slow: float = 0.8
    """Share of the median below which a node is slow."""
    patience: float = 60.0
    """Seconds that ranks are waited for, and two ranks for each other."""
    least_free: int = 1 << 30
    """Bytes that must be free in the run folder."""


@dataclass(frozen=True)
class Report:
    """What a rank says first."""

    node: str
    local_rank: int
    problems: list[str]
    notes: list[str]


class Meeting:
    """One rank of the preflight."""

    def __init__(self, who: Rendezvous, store: Any, measure: Measure, wanted: Wanted, node: str | None = None):
        self.who, self.store, self.measure, self.wanted = who, store, measure, wanted
        self.node = node or node_name()

    def hold(self, expected: Sequence[str]) -> Verdict | None:
        """Look, measure, talk; the verdict on rank 0 and None on the others. `expected`: all nodes, where known."""
        self.store.set(f"report/{self.who.rank}", json.dumps(asdict(self._look())))
        reports = self._roll_call() if self.who.rank == 0 else {}
        ranks: dict[str, list[int]] = json.loads(self._get("present", 3 * self.wanted.patience))
        # All at the same moment: clocks can be compared, and what the ranks of a node share is shared by all alike.
        self.store.set(f"clock/{self.who.rank}", json.dumps(time.time()))
        self.store.set(f"gemm/{self.who.rank}", json.dumps(self._gemm()))
        alive = set[str]()
        if self.node in ranks:
            rates, alive = self._all_pairs(ranks)
            self.store.set(f"pairs/{self.who.rank}", json.dumps(rates))
        return self._judge(reports, ranks, alive, expected) if self.who.rank == 0 else None

    def _look(self) -> Report:
        if self.who.local_rank:
            return Report(self.node, self.who.local_rank, [], [])
        problems = gpu_problems(self.wanted.gpus) + disk_problems(self.wanted.folder, self.wanted.least_free)
        log = kernel_log() if self.wanted.gpus else ""
        notes = [f"{self.node}: the kernel's log can't be read: GPU errors in it are not seen"] if log is None else []
        return Report(self.node, self.who.local_rank, problems + xid_problems(log or ""), notes)

    def _gemm(self) -> float | str:
        """TFLOP/s, or why not."""
        try:
            return self.measure.gemm_tflops()
        except RuntimeError as error:
            return str(error).splitlines()[0]

    def _roll_call(self) -> dict[int, Report]:
        """Rank 0: wait for all reports, and tell who is there: ranks by local rank of each node that is whole."""
        there = self._wait_for("report", [*range(self.who.world_size)])
        reports = {rank: Report(**json.loads(self.store.get(f"report/{rank}"))) for rank in there}
        ranks: dict[str, list[int]] = {}
        for rank, report in sorted(reports.items(), key=lambda item: item[1].local_rank):
            ranks.setdefault(report.node, []).append(rank)
        most = max(map(len, ranks.values()))
        whole = {node: found for node, found in sorted(ranks.items()) if len(found) == most}
        self.store.set("present", json.dumps(whole))
        return reports

    def _rounds(self, nodes: Sequence[str]) -> list[list[Pair]]:
        leaves = [[node for node in leaf if node in nodes] for leaf in self.wanted.leaves]
        known = {node for leaf in leaves for node in leaf}
        return rounds([*filter(None, leaves), [node for node in nodes if node not in known]], self.wanted.most_rounds)

    def _all_pairs(self, ranks: dict[str, list[int]]) -> tuple[list[float | None], set[str]]:
        """This rank's bandwidths, round by round, and who is left: nodes that stop answering take no further part."""
        found, alive = list[float | None](), set(ranks)
        for number, pairs in enumerate(self._rounds([*ranks])):
            found.append(self._pair(number, [pair for pair in pairs if alive >= {*pair}], ranks))
            self.store.set(f"end-{number}/{self.who.rank}", "")
            if self.who.rank == 0:
                there = self._wait_for(f"end-{number}", [rank for node in sorted(alive) for rank in ranks[node]])
                alive = {node for node in alive if there >= {*ranks[node]}}
                self.store.set(f"alive/{number}", json.dumps(sorted(alive)))
            alive = set(json.loads(self._get(f"alive/{number}", 3 * self.wanted.patience)))
        return found, alive

    def _pair(self, number: int, pairs: Sequence[Pair], ranks: dict[str, list[int]]) -> float | None:
        """Bandwidth to this rank's like on the other node; None when it has no part, −1 when they did not meet."""
        mine = next((pair for pair in pairs if self.node in pair), None)
        if mine is None:
            return None
        local_rank = ranks[self.node].index(self.who.rank)
        try:
            store = PrefixStore(f"pair/{number}/{mine[0]}/{local_rank}", self.store)
            return self.measure.bandwidth(store, self.node == mine[0])
        except RuntimeError:
            return -1.0

    def _wait_for(self, key: str, ranks: Sequence[int]) -> set[int]:
        """Rank 0: those of the ranks that have set `key/RANK` before patience ends."""
        end, missing = time.monotonic() + self.wanted.patience, [*ranks]
        while missing := [rank for rank in missing if not self.store.check([f"{key}/{rank}"])]:
            if time.monotonic() > end:
                break
            time.sleep(POLL_SECONDS)
        return {*ranks} - {*missing}

    def _judge(
        self, reports: dict[int, Report], ranks: dict[str, list[int]], alive: set[str], expected: Sequence[str]
    ) -> Verdict:
        measured = Measured()
        nodes = [*dict.fromkeys([*expected, *sorted(report.node for report in reports.values())])]
        per_node = max((report.local_rank for report in reports.values()), default=0) + 1
        for node in nodes:
            answered = [report for report in reports.values() if report.node == node]
            measured.problems[node] = [problem for report in answered for problem in report.problems]
            measured.notes += [note for report in answered for note in report.notes]
            if len(answered) < per_node:
                silent = per_node - len(answered)
                measured.problems[node].append(
                    f"{silent} of {per_node} ranks did not answer in {self.wanted.patience:.0f} s"
                )
            if node in ranks:
                self._rates(measured, node, ranks[node])
            if node in {*ranks} - alive:
                measured.problems[node].append("it stopped answering while it exchanged with others")
        self._pairs(measured, ranks)
        return judge(measured, nodes, self.wanted.slow)

    def _rates(self, measured: Measured, node: str, ranks: Sequence[int]) -> None:
        measured.gemm_tflops[node] = []
        for local_rank, rank in enumerate(ranks):
            rate = self._found(f"gemm/{rank}", "it stopped answering")
            if isinstance(rate, str):
                measured.problems[node].append(f"local rank {local_rank}: {rate}")
            else:
                measured.gemm_tflops[node].append(rate)
        clock = self._found(f"clock/{ranks[0]}", None)
        if clock is not None:
            measured.clocks[node] = clock

    def _pairs(self, measured: Measured, ranks: dict[str, list[int]]) -> None:
        rates = {rank: self._found(f"pairs/{rank}", None) for found in ranks.values() for rank in found}
        leaf_of = {node: i for i, leaf in enumerate(self.wanted.leaves) for node in leaf}
        for number, pairs in enumerate(self._rounds([*ranks])):
            for pair in pairs:
                both = [found[number] if (found := rates[rank]) else -1.0 for node in pair for rank in ranks[node]]
                if all(rate is None for rate in both):
                    continue  # one of them had stopped answering before
                slowest = min(rate for rate in both if rate is not None)
                kind = "within" if leaf_of.get(pair[0]) == leaf_of.get(pair[1]) else "across"
                measured.bandwidth.append((kind, pair, None if slowest < 0 else slowest))

    def _found(self, key: str, otherwise: Any) -> Any:
        """What a rank has said, or something else when it does not."""
        try:
            return json.loads(self._get(key, self.wanted.patience))
        except DistStoreError:
            return otherwise

    def _get(self, key: str, patience: float) -> str:
        self.store.wait([key], timedelta(seconds=patience))
        return str(self.store.get(key).decode())
