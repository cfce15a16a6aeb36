"""`megatron-nlg launch status`: what a run's heartbeat files say, on any machine that sees the run folder."""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from megatron_nlg.parallel.heartbeats import Blame, Heartbeat

READINGS = 2.5
"""Heartbeats between the two readings that a verdict is made from, as the watchdog has it."""
SHOWN = 8
CODES = {"moves": 0, "done": 0, "behind": 1, "not running": 3}
"""State -> exit code."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN|JOB", help="run folder, or the number of a SLURM job")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "exit codes: 0 it moves or is done, 1 ranks are behind, 2 bad input, 3 it does not run"


@dataclass(frozen=True)
class Job:
    """What SLURM says of a job."""

    number: int
    state: str
    reason: str
    restarts: int
    run: Path


@dataclass(frozen=True)
class Traffic:
    """A step's traffic out of all nodes of a run, as their adapters counted it, and as the plan foretold it."""

    nodes: int
    sent_bytes: float
    step_seconds: float
    planned_bytes: float | None
    planned_seconds: float | None
    """Of communication; what computation hides of it is not taken off."""

    def __str__(self) -> str:
        sent = self.sent_bytes / 1e6
        measured = f"{sent:,.1f} MB a step left the {self.nodes} nodes, a step took {self.step_seconds:.3g} s"
        if not self.planned_bytes:
            return measured
        off = self.sent_bytes / self.planned_bytes - 1
        planned = f"{self.planned_bytes / 1e6:,.1f} MB ({off:+.1%}), {self.planned_seconds:.3g} s of communication"
        return f"{measured}; planned: {planned}"


@dataclass(frozen=True)
class Status:
    """What is known of a run."""

    run: Path
    state: str
    """moves, behind, not running or done."""
    step: int
    """The earliest step that a rank is in."""
    total_steps: int
    ranks: int
    phases: Mapping[str, int]
    """Phase -> ranks in it."""
    behind: tuple[Blame, ...]
    job: Job | None = None
    traffic: Traffic | None = None
    """Once the run has ended: what nodes carried, against the plan."""

    def to_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        found: dict[str, Any] = {
            "run": str(self.run),
            "state": self.state,
            "step": self.step,
            "total_steps": self.total_steps,
        }
        behind = [
            {"rank": blame.rank, "alive": blame.alive, "message": str(blame)}
            | ({name: getattr(blame.last, name) for name in ("host", "pid", "step", "phase")} if blame.last else {})
            for blame in self.behind
        ]
        job = asdict(self.job) | {"run": str(self.job.run)} if self.job else None
        found |= {"ranks": self.ranks, "phases": dict(self.phases), "behind": behind, "job": job}
        return found | {"traffic": asdict(self.traffic) if self.traffic else None}


def run(args: argparse.Namespace) -> int:
    """Print the status. Raises InputError for what is no run."""
    job = find_job(int(args.run)) if args.run.isdecimal() and not Path(args.run).exists() else None
    status = look(job.run if job else Path(args.run), job)
    print(json.dumps(status.to_json(), indent=2) if args.json else render(status))
    return CODES[status.state]


def look(folder: Path, job: Job | None = None) -> Status:
    """Read the heartbeats twice, some heartbeats apart, and judge them. Raises InputError for what is no run folder."""
    from megatron_nlg.config.base import parse_yaml
    from megatron_nlg.config.errors import InputError
    from megatron_nlg.parallel.heartbeats import blamed, read_heartbeats

    config, last_start, end = _config(folder, parse_yaml), *_events(folder)
    if config is None or last_start is None:
        if job or (folder / "job.sbatch").is_file():
            return Status(folder, "not running", 0, 0, 0, {}, (), job)  # submitted, and not started yet
        raise InputError(f"{folder}: no run was started here; give a run folder, or the number of a SLURM job")
    ranks = math.prod(last_start["layout"][axis] for axis in ("pipeline", "data", "tensor", "context"))
    total = int(last_start["total_steps"])
    interval = float(config.get("heartbeat", {}).get("interval_seconds", 0))

    def status(state: str, now: Mapping[int, Heartbeat], behind: tuple[Blame, ...] = ()) -> Status:
        step = min((heartbeat.step for heartbeat in now.values()), default=0)
        phases = Counter(heartbeat.phase for heartbeat in now.values())
        return Status(folder, state, step, total, ranks, dict(phases.most_common()), behind, job)

    before = read_heartbeats(folder, ranks)
    if end is not None:
        ended = status("done" if end["status"] == "done" else "not running", before)
        return replace(ended, traffic=_traffic(folder))
    if not interval:
        raise InputError(f"{folder}: heartbeat.interval_seconds is 0, so its ranks give no signs of life")
    time.sleep(READINGS * interval)
    after = read_heartbeats(folder, ranks)
    if all(after[rank].count == before[rank].count for rank in after if rank in before):
        return status("not running", after, tuple(blamed(before, after, ranks)))
    moved = any(after[rank].beats != before[rank].beats for rank in after if rank in before)
    late = tuple(blamed(before, after, ranks))
    silent = any(not blame.alive for blame in late)
    return status("behind" if silent or not moved else "moves", after, late if silent or not moved else ())


def _traffic(folder: Path) -> Traffic | None:
    """What the nodes of the run have counted, and the plan of its last job; None on a single node."""
    from megatron_nlg.parallel.counters import read_traffic

    nodes = read_traffic(folder)
    if not nodes:
        return None
    plans = sorted((folder / "jobs").glob("*/traffic.json"), key=lambda path: path.stat().st_mtime)
    planned_bytes = planned_seconds = None
    if plans:
        plan = json.loads(plans[-1].read_text(encoding="utf-8"))
        if plan["nodes"] == len(nodes):
            planned_bytes, planned_seconds = plan["levels"][1]["bytes"]["chosen"], plan["seconds"]["chosen"]
    sent, seconds = sum(node.sent_bytes for node in nodes), max(node.step_seconds for node in nodes)
    return Traffic(len(nodes), sent, seconds, planned_bytes, planned_seconds)


def _config(folder: Path, parse: Any) -> dict[str, Any] | None:
    """The run's settings, where they have been written."""
    path = folder / "config.yaml"
    return dict(parse(path.read_text(encoding="utf-8"), str(path))) if path.is_file() else None


def _events(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The last start or resume, and the end that came after it. A half-written last line is left out."""
    start = end = None
    path = folder / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("event") in ("start", "resume"):
            start, end = row, None
        elif row.get("event") == "end":
            end = row
    return start, end


def find_job(number: int) -> Job:
    """Ask SLURM for a job and its run folder. No accounting is needed. Raises InputError."""
    from megatron_nlg.config.errors import InputError

    mend = "give its run folder"
    if shutil.which("scontrol") is None:
        raise InputError(f"job {number}: scontrol is not installed here; {mend}")
    command = ["scontrol", "-o", "show", "job", str(number)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"job {number}: SLURM does not know it (any more): {done.stderr.strip()}; {mend}")
    # Values may have blanks: each ends where the next NAME= begins.
    about = dict(re.findall(r"(\S+?)=(.*?)(?=\s+\S+=|$)", done.stdout.strip()))
    output = Path(about.get("StdOut", ""))
    if output.parent.name != "logs":
        raise InputError(f"job {number}: was not written by `megatron-nlg launch`: its output is {output}; {mend}")
    restarts = int(about.get("Restarts", "0"))
    return Job(number, about.get("JobState", "?"), about.get("Reason", "None"), restarts, output.parent.parent)


def render(status: Status) -> str:
    """A few lines for people; the first rank that is behind stands first."""
    lines = []
    if status.job:
        job = status.job
        reason = f", {job.reason}" if job.reason != "None" else ""
        restarts = f", queued again {job.restarts} times" if job.restarts else ""
        lines.append(f"job {job.number}: {job.state}{reason}{restarts}")
    phases = ", ".join(f"{count} in {phase}" for phase, count in status.phases.items())
    where = (
        f"step {status.step} of {status.total_steps}, {status.ranks} ranks ({phases})" if status.ranks else "no start"
    )
    lines.append(f"{status.run}: {status.state}: {where}")
    lines += [f"  {blame}" for blame in status.behind[:SHOWN]]
    if status.traffic:
        lines.append(f"  {status.traffic}")
    if len(status.behind) > SHOWN:
        lines.append(f"  and {len(status.behind) - SHOWN} more")
    return "\n".join(lines)
