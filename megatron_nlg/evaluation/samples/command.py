"""`megatron-nlg samples`: fixed prompts continued by a run's checkpoints, on one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shared.launch import add_run_arguments, choose_steps, load_run, on_ranks

if TYPE_CHECKING:
    from megatron_nlg.evaluation.samples.prompts import Entry
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.parallel.supervisor import Terminal

FOLDER, PAGE = "samples", "samples.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run_arguments(parser, FOLDER)
    parser.add_argument("--checkpoints", metavar="STEPS", help="`all`, or steps with commas (default: the newest)")
    parser.add_argument(
        "--also", type=Path, action="append", default=[], metavar="RUN", help="another run's newest; again for several"
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE.yaml", help="prompts and settings of your own")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="texts at once (default: 16)")


def run(args: argparse.Namespace) -> int:
    """Write the book; prints the page's path."""
    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: must be 1 or more")
    if not 0 <= args.seed < 2**62:
        raise InputError(f"--seed {args.seed}: must be from 0 to 2^62 - 1")
    from megatron_nlg.evaluation.samples.prompts import PACKAGED, entries, read_prompts

    book = read_prompts(args.prompts or PACKAGED)
    runs = [args.run, *args.also]
    names = [folder.resolve().name for folder in runs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--also: two runs are named {', '.join(repeated)}; rename a folder, or leave one out")
    asked = [choose_steps(args.run, args.checkpoints)] + [choose_steps(folder, None) for folder in args.also]
    configs = [load_run(folder, args.overrides)[0] for folder in runs]
    from data_prep.files import write_text
    from megatron_nlg.evaluation.samples.book import ROWS, read_column
    from megatron_nlg.evaluation.samples.page import page

    out, rows, columns = args.out or args.run / FOLDER, entries(book, args.seed), []
    for folder, name, config, steps in zip(runs, names, configs, asked, strict=True):
        for step in steps:
            code, found = on_ranks(config, folder, out / name, step, partial(_continue, rows, args.batch_size))
            if code or found is None:
                return code
            title = f"{name}, step {int(found.name.removeprefix('step_')):,}"
            columns.append(read_column(title, found / ROWS, rows))
    write_text(out / PAGE, page(book, rows, columns))
    print(out / PAGE)
    return 0


def _continue(
    entries: Sequence[Entry],
    batch_size: int,
    generator: Generator,
    terminal: Terminal,
    folder: Path,
    model: dict[str, Any],
) -> None:
    """On every rank of a checkpoint."""
    from megatron_nlg.evaluation.samples.book import ROWS, Book
    from megatron_nlg.generation.tasks import run_job

    run_job(Book.of(entries, folder / ROWS, generator.progress.step), batch_size, generator, terminal)
