"""`megatron-nlg checkpoint`: look at a run's checkpoints, verify every byte, delete what is not wanted. No torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from megatron_nlg.training.checkpoint.format import Manifest

WHERE = "a run's folder, its checkpoints/, or one step_…"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, what in (
        ("show", "list checkpoints; of a single one also its parameters"),
        ("verify", "read every byte; exit code 1 when something is damaged"),
        ("prune", "delete all but the newest and the kept ones"),
    ):
        action = actions.add_parser(name, help=what, description=what)
        action.add_argument("path", type=Path, metavar="DIR", help=WHERE)
    prune = actions.choices["prune"]
    prune.add_argument("--keep-last", type=int, metavar="N", help="newest ones to keep (default: the run's setting)")
    prune.add_argument("--keep-every", type=int, metavar="N", help="keep multiples of N steps; 0: none (as above)")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be deleted")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code."""
    from megatron_nlg.training.checkpoint.format import locate

    folders = locate(args.path)
    if args.action == "show":
        return show(folders)
    if args.action == "verify":
        return verify(folders)
    if len(folders) == 1 and folders[0] == args.path:
        raise InputError(f"{args.path}: is one checkpoint; name the folder that it lies in")
    return prune(folders, args.keep_last, args.keep_every, args.dry_run)


def show(folders: Sequence[Path]) -> int:
    """A row a checkpoint; of a single one also a row a parameter."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)  # a pipe has no width
    console.print(_table(folders))
    if len(folders) == 1:
        from megatron_nlg.training.checkpoint.format import read_manifest

        console.print()
        console.print(_parameters(folders[0], read_manifest(folders[0])))
    return 0


def verify(folders: Sequence[Path]) -> int:
    """Check every byte of every checkpoint, and say which files are damaged."""
    damaged = 0
    for folder in folders:
        problems = _problems(folder)
        damaged += bool(problems)
        print(f"{folder}: {'; '.join(problems) or 'whole'}", flush=True)
    return int(damaged > 0)


def _problems(folder: Path) -> list[str]:
    """As problems_of, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    from megatron_nlg.training.checkpoint.format import problem_of, read_manifest

    try:
        files = read_manifest(folder).files
    except InputError as error:
        return [str(error)]
    hidden, console = not sys.stderr.isatty(), Console(stderr=True)
    names = track(sorted(files), folder.name, transient=True, disable=hidden, console=console)
    return [text for name in names if (text := problem_of(folder / name, files[name]))]


def prune(folders: Sequence[Path], keep_last: int | None, keep_every: int | None, dry_run: bool) -> int:
    """Delete what the policy does not keep. The newest whole one always stays."""
    from megatron_nlg.training.checkpoint.format import kept, problems_of, remove

    last, every = policy(folders[0].parent)
    last, every = last if keep_last is None else keep_last, every if keep_every is None else keep_every
    if last < 1 or every < 0:
        raise InputError(f"--keep-last {last} --keep-every {every}: keep 1 or more, every 0 or more steps")
    stay = kept([_step(folder) for folder in folders], last, every)
    if all(problems_of(folder) for folder in folders if _step(folder) in stay):
        good = next((folder for folder in folders if not problems_of(folder)), None)
        stay |= {_step(good): "newest that is whole"} if good else {}
    for folder in folders:
        if _step(folder) in stay:
            print(f"{folder}: kept ({stay[_step(folder)]})")
            continue
        print(f"{folder}: {'would be deleted' if dry_run else 'deleted'}")
        if not dry_run:
            remove(folder)
    return 0


def policy(folder: Path) -> tuple[int, int]:
    """keep_last and keep_every of the run that a folder of checkpoints belongs to; the defaults when it has no run."""
    from megatron_nlg.config.schema import Checkpoint
    from megatron_nlg.config.validate import load_config

    config = folder.parent / "config.yaml"
    settings = load_config(config).checkpoint if config.is_file() else Checkpoint()
    return settings.keep_last, settings.keep_every


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _table(folders: Sequence[Path]) -> Table:
    from rich.table import Table

    from megatron_nlg.training.checkpoint.format import NAME, kept

    steps = [_step(folder) for folder in folders if NAME.fullmatch(folder.name)]
    reasons = kept(steps, *policy(folders[0].parent))
    titles = ("checkpoint", "step", "tokens", "size", "format", "holds", "written by", "files", "kept as")
    table = Table(*titles, box=None, pad_edge=False)
    for folder in folders:
        reason = reasons.get(_step(folder), "") if NAME.fullmatch(folder.name) else ""
        table.add_row(str(folder.name), *_cells(folder), reason)
    return table


def _cells(folder: Path) -> Iterator[str]:
    """Step, tokens, size, format, contents, layout, whether all files are there in their size."""
    from megatron_nlg.training.checkpoint.format import EVERYTHING, read_manifest, read_progress

    try:
        manifest, progress = read_manifest(folder), read_progress(folder)
    except InputError as error:
        yield from ("", "", "", "", "", "", f"damaged: {error}")
        return
    absent = [
        name
        for name, entry in manifest.files.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != entry["bytes"]
    ]
    yield f"{progress.step:,}"
    yield f"{progress.tokens:,}"
    yield _size(manifest.bytes)
    yield str(manifest.format)
    yield "weights, moments" if manifest.contents == EVERYTHING else "weights only"
    yield _writer(manifest)
    yield f"damaged: {', '.join(absent)}" if absent else f"{len(manifest.files)}, none missing"


def _writer(manifest: Manifest) -> str:
    """The layout, axes of 1 left out."""
    by = manifest.written_by
    if "by" in by:
        return str(by["by"])
    names = ("tensor", "pipeline", "interleave", "context", "data")
    axes = [f"{name} {by[name]}" for name in names if by.get(name, 1) != 1] or ["1 rank"]
    return f"{' × '.join(axes)}, ZeRO-{by['zero_stage']}, {by['precision']}" if by else "unknown"


def _parameters(folder: Path, manifest: Manifest) -> Table:
    from math import prod

    from rich.table import Table

    shapes = manifest.parameters
    if not shapes:  # format 1
        from megatron_nlg.training.checkpoint.reader import Source

        shapes = Source(folder).parameters()
    total = sum(map(prod, shapes.values()))
    table = Table(f"{len(shapes)} tensors, {total:,} parameters", "shape", "type", box=None, pad_edge=False)
    for name, shape in shapes.items():
        table.add_row(name, " × ".join(map(str, shape)), "fp32")
    return table


def _size(count: float) -> str:
    """12.3 MB"""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"
