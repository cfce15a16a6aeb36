"""`megatron-nlg plan --calibrate`: this machine's rates as a cluster description; a process of its own measures."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of calibration."""
    group.add_argument("--calibrate", action="store_true", help="measure this machine for 80 seconds; no config needed")
    group.add_argument("--out", type=Path, metavar="FILE", help="cluster description to write; else it is printed")


def run(args: argparse.Namespace) -> int:
    """Measure, and write or print the description. Exit code 1 when measuring fails, with what it said."""
    from launch.placement.plan import write_file
    from megatron_nlg.planning.calibration import describe

    found = measure()
    if found is None:
        return 1
    text = describe(found, datetime.date.today().isoformat())
    if args.out:
        write_file(args.out, text)
        print(f"{args.out}: written; use it with --cluster {args.out}")
    else:
        print(text, end="")
    return 0


def measure() -> dict[str, Any] | None:
    """What the measuring process found; None when it failed, after its last words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "found.json")
        command = [sys.executable, "-m", "megatron_nlg.training.calibration", str(path)]
        # One thread a rank: the planner's rates are those of a core.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        print("measuring this machine, about 80 seconds", file=sys.stderr)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print("\n".join(done.stderr.splitlines()[-3:]), file=sys.stderr)
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
