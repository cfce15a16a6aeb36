"""`megatron-nlg prep`: raw text to tokens and a blend, in stages that go on where they were."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.dedup import command as dedup_command

if TYPE_CHECKING:
    from data_prep.blend import Blend
    from data_prep.execution.units import Executor
    from data_prep.jobs import Done
    from data_prep.recipe import Recipe

STAGES = {
    "run": "all stages: a recipe to blend.yaml",
    "read": "files to documents (shards/read, rejects.jsonl)",
    "extract": "up to the text of HTML pages (shards/extract)",
    "language": "up to language identification (shards/language)",
    "clean": "up to text repair and length rules (shards/clean)",
    "filter": "up to heuristics of quality (shards/filter)",
    "quality": "up to the quality classifier (shards/quality)",
    "dedup": "up to exact and fuzzy deduplication (shards/dedup)",
    "decontaminate": "up to cutting evaluation examples out (shards/decontaminate)",
    "tokenizer": "up to training or taking over the tokenizer (tokenizer/)",
    "tokenize": "up to Megatron's token files (tokens/)",
    "blend": "up to blend.yaml: the same as run",
}
"""Subcommands: `run`, and the stages of pipeline.py by name, without importing them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `prep STAGE RECIPE [--out DIR] [key=value …]`."""
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    for name, text in STAGES.items():
        stage = stages.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. Finished stages are kept.",
        )
        if name == "dedup":
            dedup_command.add_arguments(stage)
        count = "?" if name == "dedup" else None
        stage.add_argument(
            "recipe", type=Path, nargs=count, help="YAML recipe, such as configs/corpora/python_documentation.yaml"
        )
        stage.add_argument("overrides", nargs="*", metavar="key=value", help="such as sources.0.weight=2 or root=DIR")
        stage.add_argument("--verify", action="store_true", help="read finished stages again; mend what is damaged")
        stage.add_argument("--out", help="folder of the prepared corpus; the same as out=DIR")
        if name in ("run", "blend"):
            _add_budget(stage)
    example = stages.add_parser("example", help="write raw files of every format to try all stages on")
    example.add_argument("folder", type=Path, help="a new folder, such as runs/prep_example/raw")
    example.add_argument("--seed", type=int, default=1234, help="of what is drawn (default: %(default)s)")
    from data_prep import mix_command

    text = "tokenized sources of several preparations to one blend.yaml"
    mix = stages.add_parser("mix", help=text, description=f"{text[0].upper()}{text[1:]}.")
    mix_command.add_arguments(mix)
    _add_budget(mix)


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", metavar="N", help="report epochs and samples of a run of N tokens, such as 270e9")
    parser.add_argument("--sequence-length", metavar="N", help="tokens in a sample, for that report (2048)")


def run(args: argparse.Namespace) -> int:
    """Prepare a corpus; returns 0, or raises InputError (exit 2) or MegatronNlgError (exit 1)."""
    # The library's only switch, before its first import: processes share the cores, and sums must not depend on them.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if args.stage == "example":
        return _example(args)
    overrides = [*args.overrides, *([f"out={_quoted(args.out)}"] if args.out else []), *_budget(args)]
    if args.stage == "mix":
        from data_prep import mix_command

        return mix_command.run(args, overrides)
    from data_prep.jobs import Job, exclusive
    from data_prep.pipeline import find_inputs, prepare
    from data_prep.recipe import load_recipe

    if args.stage == "dedup" and (args.recipe is None or args.input):
        return dedup_command.run(args)
    recipe = load_recipe(args.recipe, overrides)
    inputs, out = find_inputs(recipe), Path(recipe.out)
    with exclusive(out), Job(out, _executor(recipe, out), args.verify) as job:
        start = time.monotonic()
        for name, result in prepare(recipe, inputs, job, "blend" if args.stage == "run" else args.stage):
            print(f"{name:<10} {_line(name, result, recipe)}  [{time.monotonic() - start:.1f} s]", file=sys.stderr)
            start = time.monotonic()
    if args.stage == "blend" or _budget(args):
        _print_blend(out)
    if args.stage == "dedup":
        dedup_command.look(args, out)
    if args.stage in ("run", "blend"):
        print(f"{'report':<10} {out / 'report.html'}", file=sys.stderr)
    print(out / ("blend.yaml" if args.stage in ("run", "blend") else "stats.json"))
    return 0


def _budget(args: argparse.Namespace) -> list[str]:
    """--tokens and --sequence-length as overrides."""
    keys = ("tokens", "sequence_length")
    return [f"blend.{key}={getattr(args, key)}" for key in keys if getattr(args, key, None)]


def _print_blend(out: Path) -> None:
    from data_prep.files import read_json
    from data_prep.weights import table

    print(table(read_json(out / "stats.json", "prepare it again")["blend"]), file=sys.stderr)


def _example(args: argparse.Namespace) -> int:
    """Write the example's raw files, and what is in them."""
    from data_prep.example.folder import write_example

    planted = write_example(args.folder, args.seed)
    print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in planted.items()), file=sys.stderr)
    print(args.folder)
    return 0


def _quoted(text: str) -> str:
    """A path is a string, whatever YAML would make of it."""
    import json

    return json.dumps(text)


def _executor(recipe: Recipe, out: Path) -> Executor:
    from data_prep.execution.cluster import Cluster
    from data_prep.execution.local import Local

    if recipe.cluster:
        return Cluster(recipe.cluster, out.resolve() / "logs")
    return Local(recipe.processes or _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _line(name: str, result: Done | Blend, recipe: Recipe) -> str:
    """One line of what a stage did."""
    from data_prep.blend import Blend
    from data_prep.tally import Tally

    if isinstance(result, Blend):
        total = sum(source.weight for source in result.sources)
        return ", ".join(f"{source.name} {source.weight / total:.1%}" for source in result.sources)
    before = "was done: " if result.was_done else f"made again ({result.again}): " if result.again else ""
    if name == "tokenizer":
        size, wanted = result.summary["vocab_size"], recipe.tokenizer.vocab_size
        small = f" (of {wanted:,} asked for: the corpus has no more)" if wanted and size < wanted else ""
        return f"{before}{result.summary['kind']} of {size:,} entries{small}"
    if name == "tokenize":
        parts = [f"{source} {about['tokens']:,}" for source, about in result.summary.items()]
        return f"{before}tokens: {', '.join(parts)}"
    total_tally = Tally.sum(result.summary["sources"].values())
    dropped = ", ".join(f"{count['documents']:,} {reason}" for reason, count in total_tally["dropped"].items())
    text = f"{before}{total_tally['documents_in']:,} documents in, {total_tally['documents_out']:,} out"
    return f"{text} ({total_tally['bytes_out'] / 1e6:,.1f} MB)" + (f"; dropped {dropped}" if dropped else "")
