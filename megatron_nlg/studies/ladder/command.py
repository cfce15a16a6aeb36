"""`megatron-nlg bench ladder`: one model from plain fp32 up, a rung at a time, on whatever machine this is."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.config.errors import ConfigError, InputError, MegatronNlgError
from megatron_nlg.studies.ladder.rungs import DEFAULT, RUNGS, SMALLER, ladder, varied

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.studies.ladder.rungs import Machine, Step
    from megatron_nlg.studies.runs import Outcome, Run

CONFIGS = Path(__file__).parents[3] / "configs"
CONFIG = CONFIGS / "runs" / "gpt3_125m_shakespeare.yaml"
DATA = Path(__file__).parents[4] / "shared" / "data"
RESULTS, TABLE, PAGE = "ladder.json", "ladder.csv", "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "config", type=Path, nargs="?", default=CONFIG, metavar="CONFIG", help=f"run config (default: {CONFIG.name})"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace the file's, on all rungs"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folders and the report")
    parser.add_argument(
        "--rungs",
        default=",".join(DEFAULT),
        metavar="A,B",
        help=f"of {', '.join(rung.name for rung in RUNGS)} (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="steps of a rung (default: 30)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="the first, not timed (default: 5)")
    parser.add_argument(
        "--rounds", type=int, default=1, metavar="N", help="climb so often: what else the machine does hits all rungs"
    )
    parser.add_argument(
        "--nproc",
        type=int,
        metavar="N",
        help="ranks of parallel rungs (default: GPUs, else cores, as far as they share a batch evenly)",
    )
    parser.add_argument("--precision", choices=("bf16", "fp16"), default="bf16", help="mixed with fp32 (default: bf16)")
    parser.add_argument("--tensor", type=int, metavar="T", help="adds the rung: tensor parallel × T")
    parser.add_argument("--pipeline", type=int, metavar="P", help="adds the rung: pipeline of P stages")
    parser.add_argument("--smaller", action="store_true", help=f"a model for a laptop: {' '.join(SMALLER)}")
    parser.add_argument(
        "--data",
        type=Path,
        default=DATA,
        metavar="DIR",
        help="without data.blend: has text/tinyshakespeare.txt and GPT-2's tokenizer/ (default: %(default)s)",
    )
    parser.epilog = "Killed and started again, the command measures what is left. Rungs that failed are tried again"


def run(args: argparse.Namespace) -> int:
    """Climb, then draw. Exit code 1 when a rung failed that the machine should be able to do."""
    if "=" in str(args.config) and not args.config.is_file():  # the default config, and overrides
        args.overrides, args.config = [str(args.config), *args.overrides], CONFIG
    names = _names(args)
    overrides = _shared(args)
    machine = _machine(args, overrides)
    options = {"precision": args.precision, "tensor": args.tensor or 1, "pipeline": args.pipeline or 1}
    steps = [_checked(args, step, overrides) for step in ladder(names, machine, options)]
    config = _config(args, overrides, steps)
    runs = {
        step.rung.name: [_run(args, step, overrides, number) for number in range(1, args.rounds + 1)] for step in steps
    }
    feasible = [step.rung.name for step in steps if step.why_not is None]
    whole = _climb([runs[name][number] for number in range(args.rounds) for name in feasible])
    rows = _draw(args, config, machine, steps, {name: [run.folder for run in group] for name, group in runs.items()})
    if not whole:
        print("stopped; the same command goes on", file=sys.stderr)
        return 3
    return int(any("left_out" in row and row["rung"] in feasible for row in rows))


def _names(args: argparse.Namespace) -> list[str]:
    """The rungs asked for; raises InputError for options that can't be."""
    for name, low in (("steps", 2), ("warmup", 0), ("rounds", 1), ("nproc", 1), ("tensor", 1), ("pipeline", 1)):
        value = getattr(args, name)
        if value is not None and value < low:
            raise InputError(f"--{name} {value}: at least {low} is expected")
    if args.steps <= args.warmup:
        raise InputError(f"--steps {args.steps}: none is timed after --warmup {args.warmup}; raise it")
    own = varied()
    for text in args.overrides:
        if text.partition("=")[0] in own:
            raise InputError(f"override {text}: the ladder itself sets this, rung by rung; leave it out")
    names = [name.strip() for name in args.rungs.split(",") if name.strip()]
    names += [name for name in ("tensor", "pipeline") if getattr(args, name) and name not in names]
    if not names:
        raise InputError("--rungs: name at least one")
    return names


def _shared(args: argparse.Namespace) -> list[str]:
    """Overrides of all rungs: nothing but steps, and the curve of the learning rate as in the whole run."""
    from megatron_nlg.config.base import apply_overrides, read_yaml

    mine = [*(SMALLER if args.smaller else ()), *args.overrides]
    tree = apply_overrides(read_yaml(args.config), mine)
    mine += _corpus(args, tree)
    model, batch, schedule = (tree.get(key) or {} for key in ("model", "batch", "schedule"))
    try:
        tokens = args.steps * int(batch["global"]) * int(model["sequence_length"])
        whole = max(int(schedule.get("decay_tokens") or schedule["train_tokens"]), tokens)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{args.config}: batch.global, model.sequence_length and schedule.train_tokens are needed; set them"
        ) from None
    return [
        *mine,
        f"schedule.train_tokens={tokens}",
        f"schedule.decay_tokens={whole}",
        "evaluation.batches=0",
        "evaluation.interval=0",
        "checkpoint.interval=0",
        "log.interval=1",
        f"data.index_cache={(args.out / 'data_index').resolve()}",
    ]


def _corpus(args: argparse.Namespace, tree: dict[str, Any]) -> list[str]:
    """Where the tokens are: as the config says, else Tiny Shakespeare in GPT-2's BPE, prepared beside the report."""
    data = tree.get("data")
    if isinstance(data, dict) and (data.get("blend") or data.get("classification")):
        return []
    needed = args.data / "text" / "tinyshakespeare.txt", args.data / "tokenizer" / "gpt2-vocab.json"
    absent = next((path for path in needed if not path.is_file()), None)
    if absent:
        raise InputError(
            f"--data {args.data}: has no {absent.relative_to(args.data)}; name a folder that has, or prepare a text of "
            "your own (`megatron-nlg prep run configs/corpora/folder.yaml root=DIR --out CORPUS`) and give "
            "data.blend=CORPUS/blend.yaml and model.vocab_size"
        )
    corpus = args.out / "corpus"
    if not (corpus / "blend.yaml").is_file():
        recipe = CONFIGS / "corpora" / "tiny_shakespeare_gpt2.yaml"
        words = ["prep", "run", str(recipe), f"root={args.data.resolve()}", "--out", str(corpus)]
        if subprocess.run(
            [sys.executable, "-m", "megatron_nlg.cli", *words], stdout=sys.stderr, check=False
        ).returncode:
            raise MegatronNlgError(f"the corpus could not be prepared: megatron-nlg {' '.join(words)}")
    return [f"data.blend={corpus / 'blend.yaml'}"]


def _machine(args: argparse.Namespace, overrides: Sequence[str]) -> Machine:
    """This machine, asked without starting CUDA: ranks are still to be made. As many as share the batch evenly."""
    import os

    from megatron_nlg.parallel.supervisor import prepare_fork, quiet_libraries

    quiet_libraries()
    prepare_fork()
    from megatron_nlg.model.kernels import importable, why_not_compiled
    from megatron_nlg.parallel.device import local_device_count
    from megatron_nlg.parallel.supervisor import local_ranks
    from megatron_nlg.studies.ladder.rungs import Machine
    from megatron_nlg.studies.runs import resolved

    gpus = local_device_count()
    if args.nproc:
        ranks = local_ranks(args.nproc)
    else:
        batch = resolved(args.config, overrides).batch
        parts = batch.global_ // batch.micro
        ranks = max(n for n in range(1, (gpus or len(os.sched_getaffinity(0))) + 1) if n == 1 or parts % n == 0)
    libraries = gpus is not None and any(map(importable, ("apex.normalization", "transformer_engine.pytorch")))
    return Machine(gpus, ranks, why_not_compiled("cpu" if gpus is None else "cuda"), libraries)


def _checked(args: argparse.Namespace, step: Step, overrides: Sequence[str]) -> Step:
    """The rung, left out where the config does not allow it on its ranks."""
    from dataclasses import replace

    from megatron_nlg.studies.runs import resolved

    if step.why_not is not None:
        return step
    try:
        resolved(args.config, [*overrides, *step.overrides], step.ranks)
    except ConfigError as error:
        return replace(step, why_not="; ".join(str(problem) for problem in error.problems))
    return step


def _config(args: argparse.Namespace, overrides: Sequence[str], steps: Sequence[Step]) -> RunConfig:
    """What all rungs share. Raises the config's own problems, which no rung mends."""
    from megatron_nlg.data.plan import make_plan
    from megatron_nlg.studies.runs import resolved
    from megatron_nlg.training.command import make_run_folder

    config = resolved(args.config, overrides)
    if all(step.why_not is not None for step in steps):
        raise InputError(f"--rungs: none can be done here: {'; '.join(f'{s.title}: {s.why_not}' for s in steps)}")
    if config.task == "pretraining":
        make_plan(config, None)
    make_run_folder(args.out)
    return config


def _run(args: argparse.Namespace, step: Step, overrides: Sequence[str], number: int) -> Run:
    from megatron_nlg.studies.runs import Run

    name = step.rung.name if args.rounds == 1 else f"{step.rung.name}, round {number}"
    folder = args.out / f"round_{number}" / step.rung.name
    return Run(name, folder, args.config, (*overrides, *step.overrides), step.ranks, fresh=True)


def _climb(runs: Sequence[Run]) -> bool:
    """Run what is left, one after the other. Returns False when a signal asked to stop."""
    from megatron_nlg.studies.progress import Counting
    from megatron_nlg.studies.runs import drop_checkpoints, settle

    with Counting(runs) as counting:

        def ended(run: Run, outcome: Outcome) -> None:
            counting.ended(run, outcome)
            drop_checkpoints(run.folder)

        return settle(runs, 1, ended)


def _draw(
    args: argparse.Namespace, config: RunConfig, machine: Machine, steps: Sequence[Step], folders: dict[str, list[Path]]
) -> list[dict[str, Any]]:
    """Tables, pictures and the page of what there is."""
    from rich.console import Console

    from data_prep.files import write_json, write_text
    from data_prep.report.text import count_text
    from megatron_nlg.planning.parameters import total_parameters
    from megatron_nlg.studies.ladder.page import page, terminal_table
    from megatron_nlg.studies.ladder.results import csv_text, rows_of

    rows = rows_of(steps, folders, args.warmup)
    model = config.model
    sequences = f"{config.batch.global_} × {model.sequence_length} tokens a step"
    about = {
        "model": f"{count_text(total_parameters(model))} parameters: {model.num_layers} layers × {model.hidden_size}, "
        f"vocabulary {model.vocab_size:,}",
        "batch": f"{sequences}, micro-batches of {config.batch.micro}",
        "steps": args.steps,
        "warmup": args.warmup,
        "rounds": args.rounds,
        "gpus": machine.gpus,
    }
    write_json(args.out / RESULTS, {"config": args.config.name, **about, "rungs": rows})
    write_text(args.out / TABLE, csv_text(rows))
    Console(width=None if sys.stdout.isatty() else 160).print(terminal_table(rows))
    for row in rows:
        if "left_out" in row:
            print(f"{row['title']}: left out: {row['left_out']}")
    if any("left_out" not in row for row in rows):
        try:
            write_text(args.out / PAGE, page(f"Speed ladder of {args.config.stem}", args.out, rows, about))
            print(args.out / PAGE)
        except ModuleNotFoundError as error:
            print(f"no report: {error.name} is not installed", file=sys.stderr)
    return rows
