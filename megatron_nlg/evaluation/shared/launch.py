"""A study as a command: its arguments, its ranks, and the folder that it writes."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_prep.tokenizer import Tokenizer
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.parallel.supervisor import Terminal

    Task = Callable[[Generator, Terminal, Path, dict[str, Any]], None]
    """(generator, terminal, folder of the checkpoint's rows, what says which model they are of) on every rank."""

ROWS, FIGURES, REPORT = "rows.jsonl", "figures.json", "report.html"
STEP = "step"


def add_run_arguments(parser: argparse.ArgumentParser, study: str) -> None:
    """Declare what all studies have."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="layout, such as parallel.tensor=2")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"rows, figures and report (default: RUN/{study})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default: 0)")
    parser.epilog = (
        "One rank unless the layout asks for more: ranks = parallel.tensor × parallel.pipeline. Killed and started "
        "again, the command goes on where it was."
    )


def load_run(run: Path, overrides: list[str]) -> tuple[RunConfig, Tokenizer]:
    """The config in the layout that is asked for, and the tokenizer. Raises InputError or ConfigError."""
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.generation.command import ONE_RANK
    from megatron_nlg.parallel import supervisor

    if not (run / "config.yaml").is_file():
        raise InputError(f"{run}: has no config.yaml; name the folder of a run")
    config = load_config(run / "config.yaml", [*ONE_RANK, *overrides])
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    from megatron_nlg.data.tokenizer import run_tokenizer

    return config, run_tokenizer(config, run)


def on_ranks(config: RunConfig, run: Path, out: Path, step: int | None, task: Task) -> tuple[int, Path | None]:
    """Do a task with the checkpoint of `step`, or the newest; returns the exit code and the folder of its rows."""
    from megatron_nlg.config.validate import replica_ranks
    from megatron_nlg.parallel import supervisor

    ranks = supervisor.local_ranks(replica_ranks(config))
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs:
        told = Path(logs) / STEP
        code = supervisor.supervise(partial(_rank, config, run, out, step, task, told), Path(logs), ranks)
        folder = out / told.read_text(encoding="utf-8") if told.exists() else None
    return code, folder


def _rank(
    config: RunConfig,
    run: Path,
    out: Path,
    step: int | None,
    task: Task,
    told: Path,
    terminal: Terminal,
) -> int:
    """This process's part of the task."""
    from data_prep.files import file_sha256, make_folder
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.training.checkpoint.format import MANIFEST, name_of

    generator = Generator(config, run, run_tokenizer(config, run), step)
    name = name_of(generator.progress.step)
    if generator.context.is_main:
        for problem in generator.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
        make_folder(out / name)
        told.write_text(name, encoding="utf-8")
    generator.context.barrier()
    model = {
        "step": generator.progress.step,
        "checkpoint": file_sha256(run / "checkpoints" / name / MANIFEST),
        "tokenizer": generator.tokenizer.identity,
        "precision": config.precision,
    }
    task(generator, terminal, out / name, model)
    generator.context.barrier()
    generator.context.destroy()
    return 0


def choose_steps(run: Path, wanted: str | None) -> list[int | None]:
    """Checkpoints to study: None for the newest, else `all`, or steps with commas. Raises InputError."""
    from megatron_nlg.training.checkpoint.format import steps_in

    if wanted is None:
        return [None]
    there = sorted(steps_in(run / "checkpoints"))
    if wanted == "all":
        if not there:
            raise InputError(f"--checkpoints all: {run / 'checkpoints'} holds no checkpoint; train first")
        return list(there)
    try:
        steps = sorted({int(step) for step in wanted.split(",")})
    except ValueError:
        raise InputError(f"--checkpoints {wanted}: is neither `all` nor steps with commas, such as 100,200") from None
    absent = [step for step in steps if step not in there]
    if absent:
        known = ", ".join(map(str, there)) or "none"
        raise InputError(f"--checkpoints {wanted}: there is no checkpoint of step {absent[0]}; there are: {known}")
    return list(steps)
