"""Is a preparation that is killed at any instant, and started again, the same bytes as an undisturbed one?

    python -m benchmarks.prep_faults [--kills 200] [--recipe configs/runs/prep_example.yaml] [--work DIR]

Each preparation is killed (kill -9 of the first process alone, or of all at once) at random instants, a few times, and
started again with the same command but another number of processes, until it ends by itself; then its folder is
compared with that of an undisturbed run, byte by byte, and its documents are counted: none lost, none doubled.

Writes benchmarks/results/prep_faults.json; exit code 1 when a folder differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.jobs import WORK

RESULT = Path("benchmarks/results/prep_faults.json")
KILLS_A_RUN = 8
SHARD_BYTES = 200_000  # many units, so that kills fall between them


def command(recipe: Path, folder: Path, out: Path, processes: int) -> list[str]:
    words = ["prep", "run", str(recipe), f"root={folder}", f"shard_bytes={SHARD_BYTES}", f"processes={processes}"]
    return [sys.executable, "-m", "megatron_nlg.cli", *words, "--out", str(out)]


def content(out: Path) -> dict[str, str]:
    """Checksums of all files by name, hidden ones (the lock) left out."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.relative_to(out).as_posix().startswith(".")
    }


def stage_at_work(out: Path) -> str:
    """The stage whose work was under way when a run was killed."""
    try:
        folders = [path.name for path in (out / WORK).glob("*-*")]
    except FileNotFoundError:  # it went meanwhile
        folders = []
    return folders[0].rpartition("-")[0] if folders else "between stages"


def killed(words: Sequence[str], out: Path, stage: str | None, seconds: float, everyone: bool) -> bool:
    """Start, and kill -9 some seconds after the start, or after `stage` has begun; False when it had ended by itself.

    Raises RuntimeError when it had failed.
    """
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    while stage and process.poll() is None and stage_at_work(out) != stage:
        time.sleep(0.002)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if everyone else process.kill()
        process.communicate()
        return True
    if process.returncode:
        raise RuntimeError(errors.decode()[-3000:])
    return False


def trial(recipe: Path, folder: Path, out: Path, stages: Mapping[str, float], seed: int) -> Counter[str]:
    """One preparation, killed a few times, by turns at any instant and within a stage; how often in which stage."""
    draw, kills = random.Random(seed), Counter[str]()
    for number in range(KILLS_A_RUN):
        stage = draw.choice(list(stages)) if number % 2 else None
        seconds = draw.uniform(0, stages[stage]) if stage else draw.uniform(0.2, sum(stages.values()))
        words = command(recipe, folder, out, draw.choice([1, 2, 3]))
        if not killed(words, out, stage, seconds, draw.random() < 0.5):
            return kills
        kills[stage_at_work(out)] += 1
    if killed(command(recipe, folder, out, 2), out, None, 600.0, everyone=True):
        raise RuntimeError("an undisturbed run takes more than ten minutes")
    return kills


def undisturbed(recipe: Path, folder: Path, out: Path) -> dict[str, float]:
    """Prepare; the seconds of each stage that has any."""
    done = subprocess.run(command(recipe, folder, out, 1), check=True, capture_output=True, text=True)
    found = re.findall(r"^(\w+) .*\[([\d.]+) s\]$", done.stderr, re.MULTILINE)
    return {name: max(float(seconds), 0.1) for name, seconds in found if name != "blend"}


def main() -> int:
    """Run trials until there were enough kills; exit code 1 when an outcome differs."""
    from benchmarks.machine import describe

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--recipe", type=Path, default=Path("configs/runs/prep_example.yaml"))
    parser.add_argument("--folder", type=Path, help="what the recipe reads; `prep example` makes it when not given")
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    machine, kills, differing = describe(), Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="prep-faults-") as name:
        work = Path(name)
        folder = args.folder or work / "example"
        if args.folder is None:
            subprocess.run([sys.executable, "-m", "megatron_nlg.cli", "prep", "example", str(folder)], check=True)
        stages = undisturbed(args.recipe, folder, work / "whole")
        whole, runs = content(work / "whole"), 0
        while kills.total() < args.kills:
            out = work / "out"
            shutil.rmtree(out, ignore_errors=True)
            kills += trial(args.recipe, folder, out, stages, seed=runs)
            found = content(out)
            if found != whole:
                names = sorted(name for name in {**whole, **found} if whole.get(name) != found.get(name))
                differing.append({"seed": runs, "files": names})
                print(f"run {runs} differs: {', '.join(names)}", flush=True)
            runs += 1
            print(
                f"{kills.total()} kills in {runs} runs, {len(differing)} of which differ from the undisturbed one",
                flush=True,
            )
        documents: dict[str, Any] = json.loads((work / "whole" / "stats.json").read_text())["tokens"]
    result = {"kills": kills.total(), "runs": runs, "by_stage": dict(kills), "differing": differing}
    result |= {"undisturbed_seconds": stages, "files": len(whole), "documents": documents}
    args.result.parent.mkdir(parents=True, exist_ok=True)
    args.result.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n")
    print(json.dumps(result["by_stage"]))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
