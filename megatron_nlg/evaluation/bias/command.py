"""`megatron-nlg bias`: studies of social bias in a run's model, and a report that says what they can and can't show."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shared.launch import FIGURES, REPORT, add_run_arguments

if TYPE_CHECKING:
    from megatron_nlg.evaluation.bias.studies import Studies
    from megatron_nlg.evaluation.shared.units import Prompt, Unit
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.generation.ledger import Row
    from megatron_nlg.generation.sampling import Sampling
    from megatron_nlg.parallel.supervisor import Terminal

ALL = "occupations,winogender,crows_pairs,stereoset,words"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run_arguments(parser, "bias")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with published sets or lexicons, found by their names; may be given again",
    )
    parser.add_argument("--studies", default=ALL, metavar="NAME,…", help=f"which (default: {ALL})")
    parser.add_argument(
        "--samples", type=int, default=800, metavar="N", help="continuations of each prompt (default: 800)"
    )
    parser.add_argument("--max-tokens", type=int, default=50, metavar="N", help="of a continuation (default: 50)")
    parser.add_argument("--top-p", type=float, default=0.9, metavar="P", help="share of the probability (default: 0.9)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="of the draws (default: 1.0)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts at once (default: 32)")
    parser.add_argument(
        "--tagger", default="lexicon", choices=("lexicon", "spacy", "nltk"), help="finds adjectives and adverbs"
    )
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="which (default: the newest)")


def run(args: argparse.Namespace) -> int:
    """Run the studies; returns the exit code."""
    from megatron_nlg.evaluation.bias.sources import find_sources
    from megatron_nlg.evaluation.bias.studies import prepare
    from megatron_nlg.evaluation.shared.launch import choose_steps, load_run, on_ranks
    from megatron_nlg.generation.sampling import Sampling

    wanted = _wanted(args)
    sampling = Sampling(args.temperature, args.top_p, args.max_tokens, args.seed)
    sampling.check()
    [step] = choose_steps(args.run, None if args.checkpoint is None else str(args.checkpoint))
    studies = prepare(find_sources(args.data), wanted, args.samples, args.tagger, args.seed)
    for name, why in studies.left_out.items():
        print(f"{name}: left out, {why}", file=sys.stderr)
    units = studies.units()
    if not units and not studies.prompts:
        raise InputError(f"--studies {args.studies}: nothing of it can be done with what --data has; add a folder")
    config, _ = load_run(args.run, args.overrides)
    out = args.out or args.run / "bias"
    jobs = _jobs(studies, units, args)
    task = partial(_work, units, studies.prompts, sampling, args.batch_size, jobs)
    code, folder = on_ranks(config, args.run, out, step, task)
    if code or folder is None:
        return code
    _report(args, out, folder, studies, list(jobs))
    return 0


def _wanted(args: argparse.Namespace) -> list[str]:
    """Names of the studies, in their order. Raises InputError for options that make no sense."""
    from megatron_nlg.evaluation.bias.studies import NAMES

    names = args.studies.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise InputError(f"--studies {unknown[0]}: is unknown; choose of {', '.join(NAMES)}")
    for option, value in (("--samples", args.samples), ("--batch-size", args.batch_size)):
        if value < 1:
            raise InputError(f"{option} {value}: must be 1 or more")
    return [name for name in NAMES if name in names]


def _jobs(studies: Studies, units: Mapping[str, Sequence[Unit]], args: argparse.Namespace) -> dict[str, Any]:
    """What the rows of each study depend on."""
    from megatron_nlg.evaluation.bias.studies import SAMPLED
    from megatron_nlg.evaluation.shared.units import identity_of

    jobs: dict[str, Any] = {name: {"study": name, "prompts": identity_of(work)} for name, work in units.items()}
    if studies.prompts:
        sampling = {"samples": args.samples, "max_tokens": args.max_tokens, "top_p": args.top_p,
                    "temperature": args.temperature, "seed": args.seed}  # fmt: skip
        jobs[SAMPLED] = {"study": SAMPLED, "prompts": identity_of(studies.prompts), "settings": sampling}
    return jobs


def _work(
    units: Mapping[str, Sequence[Unit]],
    prompts: Sequence[Prompt],
    sampling: Sampling,
    batch_size: int,
    jobs: Mapping[str, Any],
    generator: Generator,
    terminal: Terminal,
    folder: Path,
    model: Mapping[str, Any],
) -> None:
    """Score, then sample: on every rank."""
    from megatron_nlg.evaluation.bias.studies import SAMPLED
    from megatron_nlg.evaluation.shared.units import continue_prompts, score_units
    from megatron_nlg.generation.ledger import Ledger

    ledgers = {name: Ledger(folder / f"{name}.jsonl", {**model, **job}) for name, job in jobs.items()}
    for ledger in ledgers.values():
        ledger.keys()  # what belongs to another job is refused before any work
    for name, work in units.items():
        score_units(work, ledgers[name], generator, terminal, name.replace("_", " "))
    if prompts:
        continue_prompts(prompts, sampling, batch_size, ledgers[SAMPLED], generator, terminal)


def _report(args: argparse.Namespace, out: Path, folder: Path, studies: Studies, names: Sequence[str]) -> None:
    """Figures and page, and the page's path for the user."""
    from rich.console import Console

    from data_prep.files import write_json, write_text
    from megatron_nlg.evaluation.bias.page import page

    with Console(stderr=True).status("counting and drawing"):
        rows: dict[str, dict[str, Row]] = {}
        job: dict[str, Any] = {}
        for name in names:
            text = (folder / f"{name}.jsonl").read_text(encoding="utf-8")
            head, *lines = (json.loads(line) for line in text.split("\n")[:-1])
            rows[name], job = {row["key"]: row for row in lines}, head["job"]
        study = {
            "study": "bias",
            "run": args.run.resolve().name,
            "step": job["step"],
            "checkpoint": job["checkpoint"],
            "settings": {"samples": args.samples, "max_tokens": args.max_tokens, "top_p": args.top_p,
                         "temperature": args.temperature, "tagger": args.tagger, "seed": args.seed},
            "files": studies.files,
            "left_out": studies.left_out,
            "studies": studies.figures(rows),
        }  # fmt: skip
        write_json(out / FIGURES, study)
        write_text(out / REPORT, page(study))
    print(out / REPORT)
