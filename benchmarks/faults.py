"""Kills, stops and damaged files at random instants: does every run end with the undisturbed one's weights?

    python -m benchmarks.faults [--trials 100] [--corruptions 200] [--stops 4] [--jobs 1] [--minutes 60] [--seed 0]

Real `megatron-nlg train --max-restarts` jobs of a small model on two ranks, with a checkpoint every few steps. A trial
is one fault: a rank killed (SIGKILL) at any instant from the fork of the ranks on; a rank killed while a checkpoint is
being written; the whole job killed and started again by the same command; a training rank stopped (SIGSTOP). After
every other kill the newest checkpoint is damaged before the new ranks read it. A run takes faults until it is done;
then the files of its last checkpoint must be those of a run without faults, byte for byte. Writes
benchmarks/results/faults.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.parallel.heartbeats import read_heartbeats
from megatron_nlg.training.checkpoint.format import problems_of, steps_in
from tests.job import Job, until
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny

RESULT = Path("benchmarks/results/faults.json")
RANKS = 2
KILLS = ("kill", "kill while a checkpoint is written", "kill", "kill while a checkpoint is written", "kill the job")
DEAD_LIMIT, STOPPED_LIMIT = 5.0, 30.0
SPREAD = 5.0
"""Kills fall uniformly into this many seconds after the start of the ranks: into start-up, training and checkpoints."""


class Run:
    """A job that is started again until it is done, and what it has said."""

    def __init__(self, config: Path, folder: Path, fork: bool):
        self.folder, self.fork = folder, fork
        self.arguments = ["train", str(config), "--out", str(folder), "--nproc", str(RANKS), "--max-restarts", "10000"]
        self.lines: list[tuple[float, str]] = []
        self.ranks_since = 0.0
        self.start()

    def start(self) -> None:
        """The same command, for the first time or again."""
        self.job = Job("megatron_nlg.cli", self.arguments, {"OMP_NUM_THREADS": "1"}, self.fork)
        threading.Thread(target=self._listen, args=(self.job,), daemon=True).start()

    def _listen(self, job: Job) -> None:
        for line in job.process.stderr or ():
            self.lines.append((time.monotonic(), line.rstrip()))

    def faults(self) -> list[tuple[float, str]]:
        """When and what the job has said of lost ranks."""
        return [(when, line) for when, line in list(self.lines) if line.startswith("restart")]

    def is_over(self) -> bool:
        """Whether the job has ended."""
        return self.job.process.poll() is not None

    def new_ranks(self, old: Sequence[int]) -> list[int]:
        """Process ids of a full set of ranks, once there is one without the old; [] when the job ends before."""
        found: list[int] = []

        def there() -> bool:
            nonlocal found
            if self.is_over():
                return True
            try:
                found = sorted(self.job.ranks())
            except Exception:  # a process that ends while it is looked at
                found = []
            return len(found) == RANKS and not set(found) & set(old)

        until(there, "ranks")
        self.ranks_since = time.time()
        return [] if self.is_over() else found

    def training(self, ranks: Sequence[int]) -> bool:
        """Whether all these processes have begun to train."""
        return {heartbeat.pid for heartbeat in read_heartbeats(self.folder).values()} >= set(ranks)

    def writing(self) -> bool:
        """Whether a checkpoint is being written, by these ranks and not by killed ones."""
        try:
            partial = list((self.folder / "checkpoints").glob(".*.partial"))
            return any(path.stat().st_ctime > self.ranks_since for path in partial)
        except FileNotFoundError:  # just now complete
            return False

    def result(self) -> dict[str, str]:
        """File -> checksum of the last checkpoint, but for DCP's own table, which holds random names."""
        folder = self.folder / "checkpoints" / f"step_{max(steps_in(self.folder / 'checkpoints')):08d}"
        assert problems_of(folder) == []
        files = json.loads((folder / "manifest.json").read_text())["files"]
        return {name: entry["sha256"] for name, entry in files.items() if name != ".metadata"}


class Campaign:
    """Trials on one configuration, and their outcomes. `fork`: jobs have the libraries from the beginning."""

    def __init__(
        self, work: Path, steps: int, watchdog: float, seed: int = 0, damage_share: float = 0.5, fork: bool = False
    ):
        self.work, self.draw, self.damage_share, self.fork = work, random.Random(seed), damage_share, fork
        blend = write_corpus(work / "corpus")
        self.config = work / "run.yaml"
        self.config.write_text(
            to_yaml(
                tiny(
                    f"data.blend={blend}",
                    f"schedule.train_tokens={16 * 32 * steps}",
                    "evaluation.batches=0",
                    "distributed.timeout_seconds=300",
                    "checkpoint={interval: 3, keep_last: 4}",
                    f"watchdog.timeout_seconds={watchdog}",
                    f"heartbeat.interval_seconds={watchdog / 4}",
                )
            )
        )
        self.rows: list[dict[str, Any]] = []
        self.runs = self.equal = 0
        self.failed: list[str] = []
        self._numbers = count(1)
        reference = Run(self.config, work / "reference", fork)
        assert reference.job.process.wait() == 0, reference.lines[-5:]
        self.want = reference.result()

    def run(self, kinds: Iterator[str], jobs: int = 1) -> None:
        """All trials, over some jobs at once."""
        lock = threading.Lock()

        def take() -> str | None:
            with lock:
                return next(kinds, None)

        with ThreadPoolExecutor(max_workers=jobs) as pool:
            for done in [pool.submit(self.trials, iter(take, None)) for _ in range(jobs)]:
                done.result()

    def trials(self, kinds: Iterator[str]) -> None:
        """One fault a kind, over as many runs as it takes; every run is seen to its end."""
        kind = next(kinds, None)
        while kind is not None:
            run = Run(self.config, self.work / f"run{next(self._numbers)}", self.fork)
            self.runs += 1
            try:
                ranks = run.new_ranks([])
                while ranks and kind is not None:
                    if row := self.trial(run, kind, ranks):
                        self.rows.append(row)
                        said = f"{len(self.rows):4}  {row['kind']:36} rank {row['rank']}  {row['seconds']:5.2f} s"
                        print(said, file=sys.stderr, flush=True)
                        kind = next(kinds, None)
                    ranks = run.new_ranks(ranks)
                until(run.is_over, "the end of a run", 300)
                if run.job.process.returncode:
                    self.failed.append(run.lines[-1][1])
                else:
                    self.equal += run.result() == self.want
            finally:
                run.job.kill()

    def trial(self, run: Run, kind: str, ranks: list[int]) -> dict[str, Any] | None:
        """One fault and what the job made of it; None when the run was over before."""
        if kind == "kill while a checkpoint is written":
            until(lambda: run.writing() or run.is_over(), "a checkpoint")
            time.sleep(self.draw.uniform(0, 0.02))
        elif kind == "stop":  # before training begins, distributed.timeout_seconds is the limit, and not the watchdog
            until(lambda: run.is_over() or run.training(ranks), "training")
            time.sleep(self.draw.uniform(0, 1))
        else:
            time.sleep(self.draw.uniform(0, SPREAD))
        said, rank = len(run.faults()), self.draw.randrange(RANKS)
        row = {"kind": kind, "rank": rank, "while_writing": run.writing()}
        if run.is_over() or not self._strike(run, kind, ranks[rank]):
            return None
        struck = time.monotonic()
        if kind == "kill the job":
            until(lambda: not run.job.alive(), "ranks end with their supervisor")
            row["seconds"] = time.monotonic() - struck
        else:
            until(lambda: len(run.faults()) > said or run.is_over(), "the fault is noticed", 120)
            if len(run.faults()) == said:  # it was leaving already
                return None
            when, line = run.faults()[said]
            named = re.search(r": .*?rank (\d+)", line)
            row |= {"seconds": when - struck, "named": bool(named and int(named[1]) == rank)}
        if kind.startswith("kill") and self.draw.random() < self.damage_share:
            row |= self._damage_newest(run)
        if kind == "kill the job":
            run.job.kill()
            run.start()
        return row

    def _strike(self, run: Run, kind: str, pid: int) -> bool:
        try:
            if kind == "kill the job":
                run.job.process.kill()
            else:
                os.kill(pid, signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _damage_newest(self, run: Run) -> dict[str, Any]:
        """Damage the newest of several checkpoints, while no rank lives; whether that is noticed is seen later."""
        checkpoints = run.folder / "checkpoints"
        whole = [s for s in sorted(steps_in(checkpoints)) if not problems_of(checkpoints / f"step_{s:08d}")]
        if len(whole) < 2 or whole[-1] != max(steps_in(checkpoints)):
            return {}
        folder = checkpoints / f"step_{whole[-1]:08d}"
        path, how = damage(folder, self.draw)
        return {"damaged": f"{folder.name}/{path.name}", "how": how, "run": run.folder.name}

    def noticed(self, row: dict[str, Any]) -> bool:
        """Whether the ranks that came after a damage have said so."""
        events = (self.work / row["run"] / "events.jsonl").read_text().splitlines()
        problems = [event.get("problem", "") for event in map(json.loads, events)]
        return any(row["damaged"].split("/")[0] in problem for problem in problems)


def damage(folder: Path, draw: random.Random) -> tuple[Path, str]:
    """Flip one bit of a file of a checkpoint, or cut it somewhere."""
    path = draw.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    data, how = bytearray(path.read_bytes()), draw.choice(["bit flip", "truncation"])
    place = draw.randrange(len(data))
    if how == "truncation":
        data = data[:place]
    else:
        data[place] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return path, how


def corruptions(folder: Path, number: int, draw: random.Random) -> Counter[str]:
    """Damage one file of a checkpoint after another, and mend it again; outcomes by kind of damage."""
    outcomes: Counter[str] = Counter()
    for _ in range(number):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        path, how = damage(folder, draw)
        outcomes[f"{how} {'detected' if problems_of(folder) else 'NOT DETECTED'}"] += 1
        path.write_bytes(before[path])
    assert problems_of(folder) == []
    return outcomes


def summary(campaign: Campaign, outcomes: Counter[str]) -> dict[str, Any]:
    """The table: per kind of fault its trials, seconds, and what was named; then files and runs."""
    table = []
    for kind in sorted({row["kind"] for row in campaign.rows}):
        rows = [row for row in campaign.rows if row["kind"] == kind]
        seconds = [row["seconds"] for row in rows]
        table.append(
            {
                "fault": kind,
                "trials": len(rows),
                "while_writing": sum(row["while_writing"] for row in rows),
                "seconds_median": round(statistics.median(seconds), 2),
                "seconds_max": round(max(seconds), 2),
                "rank_named": sum(row.get("named", False) for row in rows),
            }
        )
    damaged = [row for row in campaign.rows if "damaged" in row]
    return {
        "faults": table,
        "damaged_between_restarts": {
            "files": len(damaged),
            "noticed": sum(map(campaign.noticed, damaged)),
            "by_kind": dict(Counter(row["how"] for row in damaged)),
        },
        "corruptions": dict(outcomes),
        "runs": campaign.runs,
        "runs_equal_to_the_undisturbed": campaign.equal,
        "runs_that_failed": campaign.failed,
    }


def late(result: dict[str, Any]) -> list[str]:
    """Faults that took longer than they may to end the ranks."""
    return [
        f"{row['fault']}: {row['seconds_max']} s"
        for row in result["faults"]
        if row["seconds_max"] > (STOPPED_LIMIT if row["fault"] == "stop" else DEAD_LIMIT)
    ]


def failures(result: dict[str, Any]) -> list[str]:
    """What is not as it should be, however long it took."""
    stops = [row for row in result["faults"] if row["fault"] == "stop"]
    found = ["stop: another rank was named" for row in stops if row["rank_named"] < row["trials"]]
    found += [name for name in result["corruptions"] if "NOT" in name]
    if result["damaged_between_restarts"]["noticed"] < result["damaged_between_restarts"]["files"]:
        found.append("a damaged checkpoint was not noticed")
    if result["runs_equal_to_the_undisturbed"] < result["runs"]:
        found.append("a run ended with other weights")
    return found


def main() -> int:
    """Make the trials, print the table, write the JSON; exit 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="kills")
    parser.add_argument("--stops", type=int, default=4)
    parser.add_argument("--corruptions", type=int, default=200, help="files damaged and verified")
    parser.add_argument("--minutes", type=float, default=60, help="no new trial after these")
    parser.add_argument("--steps", type=int, default=150, help="of a run")
    parser.add_argument("--jobs", type=int, default=1, help="that run at once")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    machine, start = describe(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as work:
        campaign = Campaign(Path(work), args.steps, watchdog=8.0, seed=args.seed)
        kinds = chain(["stop"] * args.stops, islice(cycle(KILLS), args.trials))
        in_time = (kind for kind in kinds if time.monotonic() - start < 60 * args.minutes)
        campaign.run(in_time, args.jobs)
        checkpoints = campaign.work / "reference" / "checkpoints"
        newest = checkpoints / f"step_{max(steps_in(checkpoints)):08d}"
        result = summary(campaign, corruptions(newest, args.corruptions, campaign.draw))
    result |= {"machine": machine, "minutes": round((time.monotonic() - start) / 60, 1), "trials": campaign.rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'fault':36} trials  writing  median s  max s  rank named")
    for row in result["faults"]:
        print(
            "{fault:36} {trials:6}  {while_writing:7}  {seconds_median:8}  {seconds_max:5}  {rank_named:10}".format(
                **row
            )
        )
    for key in ("damaged_between_restarts", "corruptions", "runs", "runs_equal_to_the_undisturbed"):
        print(f"{key}: {result[key]}")
    wrong = failures(result) + late(result)
    print("as it should be" if not wrong else f"WRONG: {wrong}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
