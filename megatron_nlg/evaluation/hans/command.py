"""`megatron-nlg hans`: a run's model asked HANS; its report tells answer bias from reliance on overlap."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shared.launch import FIGURES, REPORT, ROWS, add_run_arguments

if TYPE_CHECKING:
    from data_prep.tokenizer import Tokenizer
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.evaluation.hans.prompts import Condition
    from megatron_nlg.evaluation.shared.units import Unit
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.generation.ledger import Row
    from megatron_nlg.parallel.supervisor import Terminal

SHOT_POOL = 4
"""Examples to draw shots from, for each shot of the largest number."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run_arguments(parser, "hans")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="HANS as published (.txt or .jsonl) or .tsv, also .xz"
    )
    parser.add_argument("--shots", default="0,1,8", metavar="K,…", help="examples before the question (default: 0,1,8)")
    parser.add_argument("--limit", type=int, metavar="N", help="a balanced sample of the examples (default: all)")
    parser.add_argument(
        "--held-out", type=int, default=300, metavar="N", help="others that set the threshold (default: 300)"
    )
    parser.add_argument(
        "--controls", type=int, default=300, metavar="N", help="premises with hypotheses of others (default: 300)"
    )
    parser.add_argument("--orders", type=int, default=3, metavar="N", help="orders of the same shots (default: 3)")
    parser.add_argument("--no-shuffled", action="store_true", help="without shots whose labels are shuffled")
    parser.add_argument(
        "--checkpoints", metavar="STEPS", help="`all`, or steps with commas: growth over the run (default: the newest)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the study; returns the exit code."""
    from megatron_nlg.evaluation.hans.draws import draw
    from megatron_nlg.evaluation.hans.prompts import conditions, units
    from megatron_nlg.evaluation.hans.reader import read_examples
    from megatron_nlg.evaluation.shared.launch import choose_steps, load_run, on_ranks

    shots = _check(args)
    steps = choose_steps(args.run, args.checkpoints)
    examples = read_examples(args.data)
    pool = SHOT_POOL * max(shots)
    drawn = draw(examples, args.limit, args.held_out, pool, args.controls, args.seed)
    asked = conditions(shots, args.orders, not args.no_shuffled)
    config, tokenizer = load_run(args.run, args.overrides)
    work = list(units(drawn, asked, args.seed))
    _check_lengths(work, tokenizer, config)
    settings = _settings(args, pool, work)
    out = args.out or args.run / "hans"
    folders = []
    for step in steps:
        code, folder = on_ranks(config, args.run, out, step, partial(_score, work, settings))
        if code or folder is None:
            return code
        folders.append(folder)
    _report(args, out, folders, settings, asked)
    return 0


def _check(args: argparse.Namespace) -> list[int]:
    """The numbers of shots. Raises InputError for options that make no sense."""
    try:
        shots = sorted({int(k) for k in args.shots.split(",")})
    except ValueError:
        raise InputError(f"--shots {args.shots}: must be numbers with commas, such as 0,1,8") from None
    for option, value, least in (
        ("--shots", shots[0], 0),
        ("--limit", 1 if args.limit is None else args.limit, 1),
        ("--held-out", args.held_out, 0),
        ("--controls", args.controls, 0),
        ("--orders", args.orders, 1),
    ):
        if value < least:
            raise InputError(f"{option} {value}: must be {least} or more")
    return shots


def _settings(args: argparse.Namespace, pool: int, work: Sequence[Unit]) -> dict[str, Any]:
    """What the rows depend on."""
    from data_prep.files import file_sha256
    from megatron_nlg.evaluation.hans.prompts import SHOT_SETS
    from megatron_nlg.evaluation.shared.units import identity_of

    return {
        "study": "hans",
        "data": file_sha256(args.data),
        "prompts": identity_of(work),
        "settings": {
            "limit": args.limit,
            "held_out": args.held_out,
            "controls": args.controls,
            "shots": args.shots,
            "orders": args.orders,
            "shuffled": not args.no_shuffled,
            "shot_pool": pool,
            "shot_sets": SHOT_SETS,
            "seed": args.seed,
        },
    }


def _check_lengths(work: Sequence[Unit], tokenizer: Tokenizer, config: RunConfig) -> None:
    """Raise InputError when a prompt is longer than the model's sequence: its beginning would be cut off unsaid."""
    longest: dict[int, Unit] = {}
    for unit in work:
        shots = unit.about["condition"]["shots"]
        if shots not in longest or len(unit.requests[0][0]) > len(longest[shots].requests[0][0]):
            longest[shots] = unit
    limit = config.model.sequence_length
    for shots, unit in sorted(longest.items()):
        length = max(len(tokenizer.encode(context + answer)) for context, answer in unit.requests)
        if length > limit + 1:
            mend = "leave it out of --shots" if shots else "this model can't be asked"
            raise InputError(
                f"--shots {shots}: a prompt has {length} tokens, and the model's sequence (model.sequence_length) "
                f"{limit}; {mend}"
            )


def _score(
    work: Sequence[Unit],
    settings: dict[str, Any],
    generator: Generator,
    terminal: Terminal,
    folder: Path,
    model: dict[str, Any],
) -> None:
    """On every rank."""
    from megatron_nlg.evaluation.shared.units import score_units
    from megatron_nlg.generation.ledger import Ledger

    title = f"HANS, step {generator.progress.step}"
    score_units(work, Ledger(folder / ROWS, model | settings), generator, terminal, title)


def _report(
    args: argparse.Namespace, out: Path, folders: Sequence[Path], settings: dict[str, Any], asked: Sequence[Condition]
) -> None:
    """Figures and page, and the page's path for the user."""
    from data_prep.files import write_json, write_text
    from megatron_nlg.evaluation.hans.figures import figures
    from megatron_nlg.evaluation.hans.page import page

    points = []
    for folder in folders:
        rows, job = _rows(folder / ROWS)
        points.append(
            {"step": job["step"], "checkpoint": job["checkpoint"], "conditions": figures(rows, asked, args.seed)}
        )
    study = {
        "study": "hans",
        "run": args.run.resolve().name,
        "file": args.data.name,
        "sha256": settings["data"],
        "settings": settings["settings"],
        "checkpoints": points,
    }
    write_json(out / FIGURES, study)
    write_text(out / REPORT, page(study))
    for row in points[-1]["conditions"]:
        accuracy = row["accuracy"]
        text = f"{row['name']}: {100 * accuracy['value']:.1f} % right, area under the curve {row['auc']['value']:.3f}"
        print(text, file=sys.stderr)
    print(out / REPORT)


def _rows(path: Path) -> tuple[list[Row], dict[str, Any]]:
    import json

    head, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1])
    return rows, head["job"]
