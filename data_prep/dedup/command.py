"""`prep dedup --input FILES --output DIR`: duplicates among files, without a recipe; and what `prep dedup` shows."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_prep.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `prep dedup` takes besides a recipe."""
    alone = parser.add_argument_group("without a recipe")
    alone.add_argument(
        "--input", nargs="+", metavar="FILE", help="text, JSON lines, folders, globs; earlier ones have priority"
    )
    alone.add_argument(
        "--output", metavar="DIR", help="clusters.parquet (id, cluster, keep), and shards/dedup: what is kept"
    )
    alone.add_argument("--permutations", type=int, help="min-hashes of a document (128)")
    alone.add_argument("--threshold", type=float, help="Jaccard similarity from which on two documents are one (0.8)")
    alone.add_argument(
        "--clusters", choices=["anchored", "connected"], help="all near an anchor (default), or chains too"
    )
    alone.add_argument("--text-key", metavar="KEY", help="key of a JSON line that holds the text (text)")
    alone.add_argument("--workers", type=int, help="worker processes (all cores); no output depends on it")
    parser.add_argument("--show", type=int, metavar="N", help="print the N largest clusters with their texts")
    parser.add_argument(
        "--plot", action="store_true", help="draw clusters.png: cluster sizes, and similarity of candidates"
    )


def run(args: argparse.Namespace) -> int:
    """Find duplicates among files; returns 0, or raises InputError."""
    from data_prep.dedup.look import TABLE, found_in, write_table
    from data_prep.execution.local import Local
    from data_prep.files import json_text, write_text_if_changed
    from data_prep.jobs import Job, exclusive
    from data_prep.pipeline import find_inputs
    from data_prep.stages.base import Progress
    from data_prep.stages.dedup import RemoveDuplicates
    from data_prep.stages.read import Read
    from megatron_nlg.config.errors import InputError

    if not args.input or not args.output or args.recipe or args.overrides or args.out:
        raise InputError("prep dedup takes a recipe (with --out), or --input FILES and --output DIR; not both")
    recipe = _recipe(args)
    inputs, out = find_inputs(recipe), Path(recipe.out)
    with exclusive(out), Job(out, Local(recipe.processes or len(os.sched_getaffinity(0))), args.verify) as job:
        progress = Progress(recipe, inputs, job)
        for stage in (Read(), RemoveDuplicates()):
            progress.done[stage.name] = stage.run(progress)
        found = found_in(out)
        write_table(found, out / TABLE)
        write_text_if_changed(out / "stats.json", json_text({"dedup": found.done.summary["clusters"]}))
    about, kept = found.done.summary["clusters"], int(found.keep.sum())
    print(
        f"{len(found.keep):,} documents, {kept:,} kept; {about['clusters']:,} clusters, "
        f"the largest of {about['largest_cluster']:,}; {about['candidate_pairs']:,} candidate pairs",
        file=sys.stderr,
    )
    look(args, out)
    print(out / TABLE)
    return 0


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe that the options stand for; its tokenizer is never made."""
    from data_prep.recipe import Recipe
    from data_prep.recipe.dedup import dedup_problems
    from megatron_nlg.config.base import build
    from megatron_nlg.config.errors import ConfigError

    dedup = {"num_perm": args.permutations, "threshold": args.threshold, "clusters": args.clusters}
    source = {"name": "input", "paths": args.input, "text_key": args.text_key}
    tree = {
        "out": args.output,
        "sources": [{key: value for key, value in source.items() if value is not None}],
        "dedup": {key: value for key, value in dedup.items() if value is not None},
        "tokenizer": {"kind": "char"},
        "processes": args.workers or 0,
    }
    recipe = build(Recipe, tree, "prep dedup")
    if problems := list(dedup_problems(recipe.dedup)):
        raise ConfigError(problems, "prep dedup")
    return recipe


def look(args: argparse.Namespace, out: Path) -> None:
    """What --show and --plot ask for, of a finished deduplication."""
    if args.show is None and not args.plot:
        return
    from data_prep.dedup.look import PICTURE, describe, draw, found_in

    found = found_in(out)
    if args.show:
        print("\n".join(describe(found, args.show)))
    if args.plot:
        draw(found, out / PICTURE)
        print(out / PICTURE, file=sys.stderr)
