"""All tasks of an evaluation, one after the other, on rank 0: progress, results and what is said of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_prep.files import file_sha256, fingerprint
from megatron_nlg.evaluation import results
from megatron_nlg.evaluation.adaptor import ParallelLM
from megatron_nlg.evaluation.harness import build_task, measure
from megatron_nlg.evaluation.journal import Journal
from megatron_nlg.evaluation.ranks import Ranks
from megatron_nlg.evaluation.results import Outcome
from megatron_nlg.parallel.supervisor import Terminal
from megatron_nlg.training.checkpoint.format import MANIFEST, name_of

ANSWERS = "answers.jsonl"

if TYPE_CHECKING:
    from megatron_nlg.evaluation.command import Plan
    from megatron_nlg.generation.generator import Generator


def measure_all(ranks: Ranks, folder: Path, plan: Plan, terminal: Terminal) -> None:
    """Evaluate each task; results.json and results.png are written after each, the table at the end."""
    generator = ranks.generator
    lm = ParallelLM(ranks, checkpoint_of(generator, folder), Journal(plan.out / ANSWERS))
    about = {
        "run": folder.resolve().name,
        "step": generator.progress.step,
        "checkpoint": lm.checkpoint,
        "limit": plan.limit,
        "same_shots": plan.source.same_shots,
    }
    outcomes: list[Outcome] = []
    console = Console(file=terminal.err, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for task, shots, few in plan.jobs():
            bar = progress.add_task(f"{task}, {shots} shots", total=None)
            lm.advance = lambda done, of, bar=bar: progress.update(bar, completed=done, total=of)
            outcomes.append(_measure(lm, task, shots, few, plan))
            results.write(plan.out, about, outcomes)
            if cut := outcomes[-1].cut:
                print(
                    f"{task}, {shots} shots: {cut} prompts are longer than the model's {lm.max_length} tokens and were "
                    "cut at their start; ask for fewer --shots",
                    file=terminal.err,
                    flush=True,
                )
    width = None if terminal.out.isatty() else 130  # a file takes every column
    Console(file=terminal.out, highlight=False, width=width).print(results.table(outcomes))
    print(f"{plan.out}: results.json, results.png", file=terminal.err, flush=True)


def _measure(lm: ParallelLM, task: str, shots: int, few: bool, plan: Plan) -> Outcome:
    start, lm.cut = time.monotonic(), 0
    metrics = measure(lm, build_task(task, shots, plan.source), plan.limit)
    return Outcome(task, shots, few, metrics, lm.cut, round(time.monotonic() - start, 3))


def checkpoint_of(generator: Generator, folder: Path) -> str:
    """What answers depend on beside the request: weights (by their checksums), precision and tokenizer."""
    manifest = folder / "checkpoints" / name_of(generator.progress.step) / MANIFEST
    parts = [file_sha256(manifest), generator.config.precision, generator.tokenizer.identity]
    return fingerprint(parts)[:16]
