"""`megatron-nlg samples`: fixed prompts continued by a run's checkpoints, on one page."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError
from megatron_nlg.generation.command import ONE_RANK

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.evaluation.samples.book import Column
    from megatron_nlg.evaluation.samples.prompts import Entry
    from megatron_nlg.parallel.supervisor import Terminal

FOLDER, PAGE = "samples", "samples.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="layout, such as parallel.tensor=2")
    parser.add_argument("--step", type=int, action="append", metavar="N", help="checkpoint; again for several")
    parser.add_argument("--also", type=Path, action="append", default=[], metavar="RUN", help="another run beside it")
    parser.add_argument("--prompts", type=Path, metavar="FILE.yaml", help="prompts and settings of your own")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"rows and page (default: RUN/{FOLDER})")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="texts at once (default: 16)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (default: 0)")
    parser.epilog = "killed and started again, it goes on where it was; --step is RUN's, other runs give their newest"


def run(args: argparse.Namespace) -> int:
    """Write the book; prints the page's path."""
    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: must be 1 or more")
    if not 0 <= args.seed < 2**62:
        raise InputError(f"--seed {args.seed}: must be from 0 to 2^62 - 1")
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.evaluation.samples.prompts import PACKAGED, entries, read_prompts
    from megatron_nlg.parallel import supervisor
    from megatron_nlg.training.checkpoint.format import steps_in

    book = read_prompts(args.prompts or PACKAGED)
    runs = [args.run, *args.also]
    for folder in runs:
        if not (folder / "config.yaml").is_file():
            raise InputError(f"{folder}: has no config.yaml; name the folder of a run")
    names = [folder.resolve().name for folder in runs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--also: two runs are named {', '.join(repeated)}; rename a folder, or leave one out")
    configs = [load_config(folder / "config.yaml", [*ONE_RANK, *args.overrides]) for folder in runs]
    out = args.out or args.run / FOLDER
    there = sorted(steps_in(args.run / "checkpoints"))
    if absent := [step for step in args.step or () if step not in there]:
        known = ", ".join(map(str, there)) or "none"
        raise InputError(f"--step {absent[0]}: {args.run} has no such checkpoint; there are: {known}")
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    from data_prep.files import make_folder, write_text
    from megatron_nlg.evaluation.samples.page import page

    rows = entries(book, args.seed)
    columns = []
    for folder, name, config in zip(runs, names, configs, strict=True):
        for step in args.step if folder == args.run and args.step else [None]:
            make_folder(out / name)
            code, column = _column(config, folder, step, rows, out / name, args.batch_size)
            if column is None:
                return code
            columns.append(column)
    write_text(out / PAGE, page(book, rows, columns))
    print(out / PAGE)
    return 0


def _column(
    config: RunConfig, run: Path, step: int | None, entries: Sequence[Entry], out: Path, batch_size: int
) -> tuple[int, Column | None]:
    """One checkpoint's part of the book, made by ranks that are started for it; None when they were stopped."""
    from megatron_nlg.config.validate import replica_ranks
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.evaluation.samples.book import read_column
    from megatron_nlg.parallel import supervisor

    run_tokenizer(config, run)
    ranks = supervisor.local_ranks(replica_ranks(config))
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs:
        told = Path(logs) / "rows"
        body = partial(write, config, run, step, entries, out, batch_size, told)
        code = supervisor.supervise(body, Path(logs), ranks)
        if code:
            return code, None
        path = Path(told.read_text(encoding="utf-8"))
    return 0, read_column(f"{run.resolve().name}, step {int(path.parent.name.removeprefix('step_')):,}", path, entries)


def write(
    config: RunConfig,
    run: Path,
    step: int | None,
    entries: Sequence[Entry],
    out: Path,
    batch_size: int,
    told: Path,
    terminal: Terminal,
) -> int:
    """Continue the prompts as one rank of a checkpoint; `told` gets the path of the rows."""
    from data_prep.files import make_folder
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.evaluation.samples.book import ROWS, Book
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.generation.tasks import run_job
    from megatron_nlg.training.checkpoint.format import name_of

    generator = Generator(config, run, run_tokenizer(config, run), step)
    path = out / name_of(generator.progress.step) / ROWS
    if generator.context.is_main:
        for problem in generator.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
        make_folder(path.parent)
        told.write_text(str(path), encoding="utf-8")
    generator.context.barrier()
    run_job(Book.of(entries, path, generator.progress.step), batch_size, generator, terminal)
    generator.context.barrier()
    generator.context.destroy()
    return 0
