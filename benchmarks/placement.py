"""What a placement is worth: step time in SLURM's default order against the one that `launch` chooses.

    python -m benchmarks.placement [--repeats 5] [--steps 12]

Real training under a real SLURM on eight nodes with networks of their own (network namespaces of this machine; needs
root and Debian's SLURM packages). Each node has a cable of 500 Mbit/s; four nodes share an uplink of 500 Mbit/s (4:1),
and neighbours by name lie under different leaf switches. The two kinds of jobs take turns. What is gained follows from
these limits: it shows that the placement is obeyed and pays, and is no forecast for a cluster. Writes
benchmarks/results/placement.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe
from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from tests.launch.netslurm import NetSlurm, Rates, unable
from tests.launch.ranks import rank_server, write_python
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny

RESULT = Path("benchmarks/results/placement.json")
RATE, GBS = "500mbit", 0.0625
CLUSTER = f"""
name: net
nodes: 8
gpus_per_node: 0
levels:
  - {{name: gpu, bandwidth_gbs: 10}}
  - {{name: node, bandwidth_gbs: {GBS}}}
  - {{name: leaf, bandwidth_gbs: {GBS}}}
"""
SETTINGS = (
    "data.blend=corpus/blend.yaml",
    "data.split=[1.0, 0.0]",
    "batch={micro: 2, global: 16}",
    "evaluation={interval: 0, batches: 0}",
    "checkpoint.interval=0",
    "model.hidden_size=256",
    "parallel.pipeline=2",
)
NODES = ("--nodes", "8", "--ranks-per-node", "1")
FABRIC = ("--cluster", "cluster.yaml", "--topology", "scontrol")


def typed(*arguments: str) -> str:
    """What `megatron-nlg arguments…` prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(arguments) == 0
    return said.getvalue()


def step_seconds(slurm: NetSlurm, run: str, options: tuple[str, ...]) -> tuple[float, float]:
    """Median seconds of a job's steps but the first two, and MB that cross the busiest uplink in the whole job."""
    before = [count for leaf in (1, 2) for count in slurm.uplink_bytes(leaf)]
    number = int(typed("launch", "run.yaml", "--out", run, *NODES, *options, "--submit").split()[1])
    state = slurm.wait(number, timeout=300)["JobState"]
    if state != "COMPLETED":
        sys.exit(Path(run, "logs", f"slurm-{number}.out").read_text())
    after = [count for leaf in (1, 2) for count in slurm.uplink_bytes(leaf)]
    rows = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    sent = max(late - early for early, late in zip(before, after, strict=True))
    return median(row["step_seconds"] for row in rows[2:]), sent / 1e6


def measure(slurm: NetSlurm, repeats: int) -> dict[str, Any]:
    """Both kinds of jobs in turn, and what the plan says of them."""
    found: dict[str, Any] = {}
    for name in ("default", "chosen"):
        found[name] = {"step_seconds": [], "uplink_mb": []}
    for repeat in range(repeats):
        for name, options in (("default", ()), ("chosen", FABRIC)):
            seconds, sent = step_seconds(slurm, f"{name}{repeat}", options)
            found[name]["step_seconds"].append(round(seconds, 4))
            found[name]["uplink_mb"].append(round(sent, 1))
            print(f"{name}: {seconds:.3f} s a step, {sent:.0f} MB over the busiest uplink in the job")
    plan = json.loads(typed("plan", "run.yaml", *FABRIC, "--nodelist", "node[1-8]", "--placement", "--json"))
    for name in ("default", "chosen"):
        found[name]["median_step_seconds"] = median(found[name]["step_seconds"])
        found[name]["predicted_communication_seconds"] = plan["seconds"][name]
    found["ratio"] = round(found["default"]["median_step_seconds"] / found["chosen"]["median_step_seconds"], 3)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    if reason := unable():
        sys.exit(f"this benchmark can't run here: {reason}")
    repository, machine, slurm = Path.cwd(), describe(), NetSlurm(8, Rates(RATE, RATE))
    with tempfile.TemporaryDirectory(prefix="placement-") as temporary, contextlib.ExitStack() as stack:
        stack.callback(slurm.stop)
        slurm.start()
        folder = Path(temporary)
        write_corpus(folder / "corpus")
        tokens = f"schedule.train_tokens={16 * 32 * args.steps}"
        (folder / "run.yaml").write_text(to_yaml(tiny(*SETTINGS, tokens)))
        (folder / "cluster.yaml").write_text(CLUSTER)
        write_python(folder / "python", stack.enter_context(rank_server(folder / "server")))
        os.environ |= {"SLURM_CONF": slurm.env["SLURM_CONF"], "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        sys.executable = str(folder / "python")
        with contextlib.chdir(folder):
            found = measure(slurm, args.repeats)
    links = {"node": RATE, "uplink": RATE, "nodes_under_an_uplink": 4}
    result = {"machine": machine, "links": links, "layout": "pipeline 2 × data 4", "steps": args.steps, **found}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"default / chosen: {found['ratio']} ({RESULT})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
