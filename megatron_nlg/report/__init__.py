"""`megatron-nlg report`: a run, or several laid over each other, as one self-contained HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from megatron_nlg.config.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", metavar="RUN", type=Path, nargs="+", help="run folders; they may still be training")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="where the page goes (RUN/report.html; comparison.html for several)"
    )
    parser.add_argument(
        "--cluster", metavar="FILE", type=Path, help="where one run trained: shows what `plan` predicts for it too"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from rich.console import Console

    with Console(stderr=True).status("drawing the report"):
        several = len(args.run) > 1
        if several and args.cluster:
            raise InputError("--cluster: is for one run; name one, or leave it out")
        path = write_comparison(args.run, args.out) if several else write_report(args.run[0], args.out, args.cluster)
    print(path, file=sys.stdout)
    return 0


def write_report(folder: Path, out: Path | None = None, cluster: Path | None = None) -> Path:
    """Draw a run folder; returns the page's path. Raises InputError for a folder or file that can't be used."""
    from megatron_nlg.config.cluster import load_cluster
    from megatron_nlg.report.gantt import write_png
    from megatron_nlg.report.page import page
    from megatron_nlg.report.record import read_record
    from megatron_nlg.training.callbacks.metrics import replace_text

    path = out or folder / "report.html"
    record = read_record(folder)
    text = page(record, load_cluster(cluster) if cluster else None)
    try:
        replace_text(path, text)
        if record.pipeline:
            write_png(record.pipeline)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}; choose another file with --out") from None
    return path


def write_comparison(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Draw several run folders on one page; returns its path. Raises InputError as `write_report` does."""
    from megatron_nlg.report.comparison import comparison
    from megatron_nlg.report.record import read_record
    from megatron_nlg.training.callbacks.metrics import replace_text

    repeated = {str(folder) for folder in folders if [f.resolve() for f in folders].count(folder.resolve()) > 1}
    if repeated:
        raise InputError(f"{', '.join(sorted(repeated))}: given twice; name each run once")
    path = out or Path("comparison.html")
    text = comparison([read_record(folder) for folder in folders])
    try:
        replace_text(path, text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}; choose another file with --out") from None
    return path
