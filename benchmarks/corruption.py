"""Is every kind of damage to a checkpoint's files found? `corrupt` does it to a folder, one kind a seed.

    python -m benchmarks.corruption [--trials 300]

Writes benchmarks/results/corruption.json; exit code 1 when a damage was not found.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

RESULT = Path("benchmarks/results/corruption.json")
KINDS = ("flip", "truncate", "zero", "extend", "empty", "delete", "swap")


def corrupt(folder: Path, seed: int) -> str:
    """Damage one file of a checkpoint, or two; says how. The same seed does the same to the same files."""
    draw = random.Random(seed)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    path, kind = draw.choice(files), KINDS[seed % len(KINDS)]
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << draw.randrange(8)
    elif kind == "truncate":
        del data[at:]
    elif kind == "zero":  # a page that never reached the disk
        page = data[at : at + 4096]
        data[at : at + 4096] = bytes(len(page)) if any(page) else b"\1" * len(page)
    elif kind == "extend":
        data += bytes([draw.randrange(256)])
    elif kind == "empty":
        data.clear()
    elif kind == "swap":
        other = draw.choice([file for file in files if file != path])
        data, theirs = bytearray(other.read_bytes()), bytes(data)
        other.write_bytes(theirs)
    if kind == "delete":
        path.unlink()
    else:
        path.write_bytes(data)
    return f"{kind} {path.name}" + (f" at {at}" if kind in ("flip", "truncate", "zero") else "")


def example(folder: Path) -> Path:
    """A checkpoint of eight files with random content."""
    import torch

    from megatron_nlg.training.checkpoint.format import Progress
    from megatron_nlg.training.checkpoint.publish import publish_alone
    from megatron_nlg.training.checkpoint.state import Piece

    shape = torch.Size([40, 25])
    pieces = [Piece(f"weight.parameter.{n}", shape, torch.Size([0, 0]), shape, None) for n in range(32)]
    return publish_alone(folder, Progress(1), pieces, lambda _: torch.randn(shape), "a trial", files=8)


def main() -> int:
    """Damage copies of a checkpoint; exit code 1 when verification overlooked one."""
    from benchmarks.machine import describe
    from megatron_nlg.training.checkpoint.format import problems_of

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    args = parser.parse_args()
    found, missed = Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="corruption-") as work:
        whole = example(Path(work) / "whole")
        assert not problems_of(whole)
        for seed in range(args.trials):
            copy = Path(work) / "copy"
            shutil.copytree(whole, copy)
            what = corrupt(copy, seed)
            if problems_of(copy):
                found[what.split()[0]] += 1
            else:
                missed.append(what)
            shutil.rmtree(copy)
    result = {"machine": describe(), "trials": args.trials, "found": dict(found), "missed": missed}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{sum(found.values())} of {args.trials} damages found: {dict(found)}; missed: {missed}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
