"""`megatron-nlg`: one command, a table of subcommands. Their modules are imported only when they are chosen."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from megatron_nlg import __version__
from megatron_nlg.config.errors import MegatronNlgError


class Command(NamedTuple):
    """A subcommand: `module` has add_arguments(parser) and run(args) -> exit code."""

    module: str
    help: str


COMMANDS = {
    "demo": Command("megatron_nlg.demo", "raw text to a trained, killed, resumed and reported GPT, in minutes"),
    "prep": Command("data_prep.command", "raw text to tokens and a blend"),
    "check": Command("megatron_nlg.config.command", "resolve a config, list its problems, its layout, size and memory"),
    "index": Command("megatron_nlg.data.command", "build a run's sample indices beforehand, with progress"),
    "train": Command("megatron_nlg.evaluation.live", "train, or go on with a run"),
    "verify": Command(
        "megatron_nlg.training.verification.command", "train one config in many layouts: are they equal?"
    ),
    "checkpoint": Command(
        "megatron_nlg.training.checkpoint.command", "list a run's checkpoints, verify them, delete old ones"
    ),
    "convert": Command(
        "megatron_nlg.training.checkpoint.convert",
        "checkpoints into other shapes, from DeepSpeed, from and to Hugging Face",
    ),
    "generate": Command("megatron_nlg.generation.command", "continue a prompt with a run's model"),
    "classify": Command("megatron_nlg.generation.classify", "classes of texts by a run that was trained to give them"),
    "serve": Command("megatron_nlg.serving.command", "serve a run's model over HTTP, as OpenAI's API"),
    "evaluate": Command("megatron_nlg.evaluation.command", "a run's model on evaluation tasks, beside published ones"),
    "hans": Command(
        "megatron_nlg.evaluation.hans.command", "does the model read, or rely on overlap? HANS, with a report"
    ),
    "bias": Command(
        "megatron_nlg.evaluation.bias.command", "social bias: occupations, words of groups, published sets; a report"
    ),
    "samples": Command(
        "megatron_nlg.evaluation.samples.command", "fixed prompts of many kinds, continued by checkpoints side by side"
    ),
    "analyze": Command("megatron_nlg.analysis.command", "what a model holds: geometry and probes of its blocks"),
    "sweep": Command(
        "megatron_nlg.studies.sweep.command", "what rates and initial variances a size can bear: a grid of runs"
    ),
    "bench ladder": Command(
        "megatron_nlg.studies.ladder.command", "from plain fp32 to parallel training: what each rung gains here"
    ),
    "preflight": Command(
        "megatron_nlg.training.preflight.command", "are the nodes of this allocation fit to train on?"
    ),
    "report": Command("megatron_nlg.report", "draw a run as one HTML page"),
    "plan": Command("launch.plan", "a run before it starts: its steps, memory and best layout, and where ranks sit"),
    "topology": Command("launch.topology.command", "read a fabric from SLURM, ibnetdiscover, nvidia-smi or NCCL"),
    "launch status": Command("launch.status", "how a run is doing: which rank, node and phase is behind"),
    "launch": Command("launch.command", "write, and submit, a SLURM batch job for a run config"),
}


def parser(chosen: str | None) -> argparse.ArgumentParser:
    """The argument parser. Only the chosen subcommand's module is imported and only its arguments are declared."""
    top = argparse.ArgumentParser(prog="megatron-nlg", description=__doc__.splitlines()[0] if __doc__ else None)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        if name == chosen:
            importlib.import_module(command.module).add_arguments(sub)
            sub.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    return top


def parse(chosen: str | None, argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Overrides may stand before and after options.

    argparse gives a subcommand's `key=value …` only the words before the first option and returns later ones as
    unknown (in Python 3.11, and subparsers have no intermixed parsing): they are put where they belong.
    """
    top = parser(chosen)
    args, rest = top.parse_known_args(argv)
    late = [word for word in rest if "=" in word and not word.startswith("-")]
    if len(late) < len(rest) or (late and not hasattr(args, "overrides")):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if late:
        args.overrides = [*args.overrides, *late]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Exit codes: 0 done, 1 failed, 2 bad input."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if " ".join(argv[:2]) in COMMANDS:
        argv[:2] = [" ".join(argv[:2])]
    chosen = next((word for word in argv if not word.startswith("-")), None)
    args = parse(chosen, argv)
    try:
        return int(importlib.import_module(COMMANDS[args.command].module).run(args))
    except MegatronNlgError as error:
        if args.debug:
            raise
        print(f"megatron-nlg {args.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"megatron-nlg {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if args.debug:
            raise
        print(f"megatron-nlg {args.command}: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
