"""`megatron-nlg demo`: raw text to a trained, killed, resumed and reported GPT, by the commands a user would type."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError, MegatronNlgError

CONFIGS = Path(__file__).parents[1] / "configs"
MINE = ("checkpoints", "data_index", "logs", "config.yaml", "metrics.jsonl", "events.jsonl", "samples.jsonl")
PROMPTS = ("Return a list of", "The file object", "def __init__(self")
LAYOUTS = {8: (2, 2), 4: (2, 2), 2: (2, 1), 1: (1, 1)}
"""Ranks -> tensor and pipeline parallel; the rest is data parallel."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace demo.yaml's")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="text or JSONL instead of Python's documentation")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo")


def run(args: argparse.Namespace) -> int:
    """Run the demo. Ends with five lines."""
    config = CONFIGS / "runs" / "demo.yaml"
    if not config.is_file():
        raise InputError(f"{config}: not there; run the demo from a checkout of the repository")
    if args.corpus is not None and not args.corpus.is_dir():
        raise InputError(f"--corpus {args.corpus}: no such folder; name one with text or JSONL files")
    out: Path = args.out
    _clear(out)
    _prepare(args.corpus, out / "corpus")
    train = _train_command(config, out, args.overrides)
    killed_at = _train_and_kill(train, out)
    _say(f"rank killed after step {killed_at}; the same command again:")
    _call(train)
    prompts = [word for prompt in _prompts(args.corpus, out / "corpus") for word in ("--prompt", prompt)]
    _call(["generate", str(out), *prompts, "--max-tokens", "60", "--save"])
    _call(["report", str(out)])
    _summary(out, killed_at)
    return 0


def _clear(out: Path) -> None:
    """Remove an earlier demo's run; its corpus is used again."""
    if out.exists() and any(out.iterdir()) and not (out / "corpus").is_dir():
        raise InputError(f"--out {out}: is not a demo's folder; choose another one")
    for name in MINE:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _prepare(corpus: Path | None, out: Path) -> None:
    recipes = CONFIGS / "corpora"
    if corpus is None:
        _call(["prep", "run", str(recipes / "python_documentation.yaml"), "--out", str(out)])
    else:
        _call(["prep", "run", str(recipes / "folder.yaml"), f"root={corpus.resolve()}", "--out", str(out)])


def _train_command(config: Path, out: Path, overrides: Sequence[str]) -> list[str]:
    """Eight gloo ranks on the CPU, or as many GPUs as there are, in bf16."""
    from data_prep.blend import read_blend
    from megatron_nlg.parallel.device import local_device_count

    gpus = local_device_count()
    ranks = 8 if gpus is None else max(n for n in LAYOUTS if n <= gpus)
    tensor, pipeline = LAYOUTS[ranks]
    blend = out / "corpus" / "blend.yaml"
    settings = [
        f"data.blend={blend}",
        f"model.vocab_size={read_blend(blend).tokenizer.vocab_size}",
        f"parallel.tensor={tensor}",
        f"parallel.pipeline={pipeline}",
        f"parallel.sequence={str(tensor > 1).lower()}",
    ]
    if gpus is not None:
        settings.append("precision=bf16")
    return ["train", str(config), "--out", str(out), "--nproc", str(ranks), *settings, *overrides]


def _train_and_kill(train: list[str], out: Path) -> int:
    """Train past the middle and past a checkpoint, kill a rank, and wait for the job to fail; returns the last step."""
    _announce(train)
    process = subprocess.Popen([sys.executable, "-m", "megatron_nlg.cli", *train])
    try:
        while process.poll() is None:
            time.sleep(0.2)
            last = next(reversed(list(_rows(out / "metrics.jsonl"))), None)
            saved = (out / "checkpoints" / "latest").exists()
            if last and saved and last["step"] >= _middle(out):
                os.kill(_rank(process.pid), signal.SIGKILL)
                break
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    steps = [row["step"] for row in _rows(out / "metrics.jsonl")]
    if process.returncode != 1 or not steps:
        raise MegatronNlgError(f"training ended with exit code {process.returncode} before a rank was killed")
    return int(max(steps))


def _rank(supervisor: int) -> int:
    """Process id of one of the supervisor's ranks."""
    import psutil

    ranks = [child for child in psutil.Process(supervisor).children() if "resource_tracker" not in child.cmdline()]
    if not ranks:
        raise MegatronNlgError("training has no ranks to kill")
    return int(ranks[-1].pid)


def _middle(out: Path) -> int:
    """A step past the middle of training, between two checkpoints."""
    starts = [event for event in _rows(out / "events.jsonl") if event["event"] == "start"]
    return int(starts[-1]["total_steps"] * 0.55) if starts else sys.maxsize


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Whole rows of a file that is being written; validation rows are left out."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            row = json.loads(line)
            if "split" not in row:
                yield row


def _prompts(corpus: Path | None, prepared: Path) -> Sequence[str]:
    """Three beginnings: fixed ones for Python's documentation, else those of three documents of the corpus."""
    if corpus is None:
        return PROMPTS
    import pyarrow.parquet as pq

    shards = sorted((prepared / "shards" / "dedup").glob("*.parquet"))
    texts = [text for shard in shards[:1] for text in pq.read_table(shard, columns=["text"])["text"][:3].to_pylist()]
    return [" ".join(text.split()[:4]) for text in texts] or PROMPTS


@dataclass(frozen=True)
class _Ends:
    """First and last losses of the run and its speed."""

    first: float
    last: float
    tokens_per_second: float


def _ends(out: Path) -> _Ends:
    rows = list(_rows(out / "metrics.jsonl"))
    speeds = sorted(row["tokens_per_second"] for row in rows)
    return _Ends(rows[0]["loss"], rows[-1]["loss"], speeds[len(speeds) // 2])


def _summary(out: Path, killed_at: int) -> None:
    ends = _ends(out)
    events = list(_rows(out / "events.jsonl"))
    resumed = [event["step"] for event in events if event["event"] == "resume"][-1]
    checkpoint = (out / "checkpoints" / "latest").read_text(encoding="utf-8").strip()
    print(f"report          {out / 'report.html'}")
    print(f"loss            {ends.first:.3f} -> {ends.last:.3f} nats per token")
    print(f"speed           {ends.tokens_per_second:,.0f} tokens/s (median of the steps)")
    print(f"kill and resume killed after step {killed_at}, resumed from step {resumed}, ended with {checkpoint}")
    print(f'try next        megatron-nlg generate {out} --prompt "Open a file" --temperature 0.7')


def _call(arguments: Sequence[str]) -> None:
    _announce(arguments)
    code = subprocess.run([sys.executable, "-m", "megatron_nlg.cli", *arguments], check=False).returncode
    if code:
        raise MegatronNlgError(f"megatron-nlg {arguments[0]} ended with exit code {code}")


def _announce(arguments: Sequence[str]) -> None:
    _say("$ megatron-nlg " + shlex.join(arguments))


def _say(line: str) -> None:
    print(line, flush=True)
