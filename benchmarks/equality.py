"""Does every layout train the same model, reproduce itself under dropout, and go on exactly after a kill?

    python -m benchmarks.equality [--steps 50] [--layouts 32] [--ranks 8] [--work DIR]

Three tables, all of configs/runs/demo.yaml (batch ramp and clipping on) on local ranks:

1. `megatron-nlg verify`: a sample of the legal layouts against one rank, in fp32, then fewer in bf16 and fp16;
2. with dropout, `megatron-nlg train` twice in each of some layouts, and once killed and resumed: the same digits;
3. without, killed in one layout and resumed in another, against one rank undisturbed.

Writes benchmarks/results/equality.json and docs/equality.png; exit code 1 when a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import describe
from megatron_nlg.training.verification.compare import relative

CONFIG = Path("configs/runs/demo.yaml")
RESULT, PICTURE = Path("benchmarks/results/equality.json"), Path("docs/equality.png")
SETTINGS = ["batch.micro=2", "optimizer.lr=1e-3"]
FP32_LIMIT = 1e-5
RUN_STEPS = 20
LAYOUTS = {  # name -> ranks, settings of `parallel`
    "one rank": (1, "{}"),
    "TP2+SP PP2 DP2": (8, "{tensor: 2, pipeline: 2, sequence: true}"),
    "TP2+SP PP2×2": (4, "{tensor: 2, pipeline: 2, interleave: 2, sequence: true}"),
    "CP2 DP2 ZeRO-3": (4, "{context: 2, zero_stage: 3}"),
    "TP2 DP2 ZeRO-2 offload": (4, "{tensor: 2, zero_stage: 2, offload_optimizer: true}"),
    "PP4 recompute full": (4, "{pipeline: 4, recompute: full}"),
}
SAVED_BY = "TP2+SP PP2 DP2"


class Runs:
    """Real trainings of a few steps, each in a folder of its own."""

    def __init__(self, work: Path):
        self.work, self.corpus = work, work / "corpus"
        recipe = "configs/corpora/python_documentation.yaml"
        if not (self.corpus / "blend.yaml").exists():
            command("prep", "run", recipe, "--out", str(self.corpus))

    def arguments(self, folder: str, layout: str, dropout: float) -> list[str]:
        ranks, parallel = LAYOUTS[layout]
        tokens = 16 * 128 * RUN_STEPS
        settings = [
            *SETTINGS,
            f"data.blend={self.corpus / 'blend.yaml'}",
            f"schedule={{train_tokens: {tokens}, warmup_tokens: {tokens // 4}}}",
            "batch.ramp={start: 8, increment: 8, tokens: 10000}",
            "checkpoint.interval=5",
            "evaluation={interval: 0, batches: 0}",
            "parallel={tensor: 1, pipeline: 1, sequence: false}",
            f"parallel={parallel}",
            f"model.dropout={dropout}",
        ]
        return ["train", str(CONFIG), "--out", str(self.work / folder), "--nproc", str(ranks), *settings]

    def train(self, folder: str, layout: str, dropout: float = 0.0) -> list[dict[str, Any]]:
        """Train to the end, or go on to it; rows of metrics.jsonl."""
        command(*self.arguments(folder, layout, dropout))
        return rows(self.work / folder)

    def kill(self, folder: str, layout: str, dropout: float = 0.0) -> None:
        """Start, and kill -9 a rank after three fifths of the steps."""
        process = subprocess.Popen(
            [sys.executable, "-m", "megatron_nlg.cli", *self.arguments(folder, layout, dropout)],
            stderr=subprocess.DEVNULL,
        )
        path = self.work / folder
        while process.poll() is None and (not rows(path) or rows(path)[-1]["step"] < RUN_STEPS * 3 // 5):
            time.sleep(0.05)
        os.kill(psutil.Process(process.pid).children()[-1].pid, signal.SIGKILL)
        process.wait()


def command(*words: str, code: int = 0) -> str:
    """Run megatron-nlg; its standard output. Exits with what it says when its code is another."""
    done = subprocess.run(
        [sys.executable, "-m", "megatron_nlg.cli", *words], check=False, capture_output=True, text=True
    )
    if done.returncode != code:
        sys.exit(
            f"megatron-nlg {' '.join(words)}: exit code {done.returncode}: {done.stdout[-3000:]}{done.stderr[-1000:]}"
        )
    print(done.stdout, end="", flush=True)
    return done.stdout


def rows(folder: Path) -> list[dict[str, Any]]:
    """Whole rows of a run's metrics."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def difference(got: list[dict[str, Any]], want: list[dict[str, Any]]) -> dict[str, float]:
    """Largest relative differences of losses and of gradient norms."""
    return {key: relative([r[key] for r in got], [r[key] for r in want]) for key in ("loss", "grad_norm")}


def verified(work: Path, precision: str, ranks: int, layouts: int, steps: int) -> dict[str, Any]:
    """What `megatron-nlg verify` finds; it exits with 1, and so does this, when a layout is not equal."""
    out = work / f"verify_{precision}"
    words = ["verify", str(CONFIG), "--nproc", str(ranks), "--layouts", str(layouts), "--steps", str(steps)]
    if not (out / "verify.json").exists():  # of an earlier call with the same --work
        command(*words, "--out", str(out), *SETTINGS, f"precision={precision}")
    found = json.loads((out / "verify.json").read_text())
    keep = ("differences", "losses")
    found["layouts"] = {name: {key: row[key] for key in keep} for name, row in found["layouts"].items()}
    del found["config"]
    return dict(found)


def with_dropout(runs: Runs) -> list[dict[str, Any]]:
    """Each layout twice, and once killed and resumed."""
    table = []
    for number, layout in enumerate(LAYOUTS):
        first = runs.train(f"d{number}", layout, 0.1)
        runs.kill(f"d{number}_killed", layout, 0.1)
        again = difference(runs.train(f"d{number}_again", layout, 0.1), first)
        resumed = difference(runs.train(f"d{number}_killed", layout, 0.1), first)
        table.append({"layout": layout, "again": again, "killed and resumed": resumed})
        print(table[-1], flush=True)
    return table


def into_other_layouts(runs: Runs) -> list[dict[str, Any]]:
    """Killed in one layout, resumed in each."""
    want = runs.train("reference", "one rank")
    table = []
    for number, layout in enumerate(LAYOUTS):
        runs.kill(f"r{number}", SAVED_BY)
        table.append({"layout": layout, **difference(runs.train(f"r{number}", layout), want)})
        print(table[-1], flush=True)
    return table


def main() -> int:
    """Run all three, write the JSON; exit 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--layouts", type=int, default=32)
    parser.add_argument("--ranks", type=int, default=8, help="of the first table, at most")
    parser.add_argument("--work", type=Path, default=None)
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": describe(), "config": str(CONFIG), "settings": SETTINGS}
    with tempfile.TemporaryDirectory(prefix="equality-") as temporary:
        work = args.work or Path(temporary)
        result["fp32"] = verified(work, "fp32", args.ranks, args.layouts, args.steps)
        shutil.copy(work / "verify_fp32" / "verify.png", PICTURE)
        for precision in ("bf16", "fp16"):
            result[precision] = verified(work, precision, args.ranks, args.layouts // 4, args.steps // 2)
        runs = Runs(work)
        result["dropout"] = with_dropout(runs)
        result["saved by"] = SAVED_BY
        result["resumed in"] = into_other_layouts(runs)
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    exact = all(row[key]["loss"] == 0 for row in result["dropout"] for key in ("again", "killed and resumed"))
    return int(not exact or any(row["loss"] > FP32_LIMIT for row in result["resumed in"]))


if __name__ == "__main__":
    sys.exit(main())
