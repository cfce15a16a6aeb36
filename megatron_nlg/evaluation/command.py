"""`megatron-nlg evaluate`: a run's model on evaluation tasks, zero-, one- and few-shot."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.shots import count_of, parse_shots
from megatron_nlg.generation.command import ONE_RANK

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.evaluation.harness import Source
    from megatron_nlg.parallel.supervisor import Terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="layout to evaluate in, such as parallel.tensor=2"
    )
    parser.add_argument(
        "--tasks",
        required=True,
        metavar="A,B",
        help="of lambada, lambada_cloze, race_h, boolq, piqa, hellaswag, winogrande, anli_r2, hans, wic; without "
        "--data any task of lm-evaluation-harness",
    )
    parser.add_argument(
        "--shots", default="0", metavar="0,1,few", help="examples in a prompt; few: GPT-3's number (default: 0)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="sets in their published files (default: from the Hugging Face hub)"
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="N documents of each task: of --data drawn, always the same; else the first",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="results, and answers so far (default: RUN/evaluation)")
    parser.add_argument("--nproc", type=int, metavar="N", help="local ranks (default: one replica's)")
    parser.add_argument(
        "--same-shots", action="store_true", help="the same examples for every question, computed once: faster"
    )
    parser.add_argument("--fast-requests", action="store_true", help="build the same requests by a faster builder")
    parser.add_argument(
        "--batch-tokens", type=int, metavar="N", help="tokens a pass (default: 2048 on a CPU, 16384 on a GPU)"
    )
    parser.epilog = "killed and started again, the same command goes on where it was"


@dataclass(frozen=True)
class Plan:
    """What is to be evaluated, and where the results go."""

    tasks: tuple[str, ...]
    shots: tuple[int | None, ...]
    """None: the task's own number of few-shot examples."""
    source: Source
    limit: int | None
    out: Path
    batch_tokens: int | None

    def jobs(self) -> list[tuple[str, int, bool]]:
        """(task, examples, whether that is its few-shot number)."""
        return [(task, count_of(task, shots), shots is None) for task in self.tasks for shots in self.shots]


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit code."""
    from data_prep.files import make_folder
    from megatron_nlg.config.validate import load_config, replica_ranks
    from megatron_nlg.parallel import supervisor

    tasks, shots = _check(args)
    config = load_config(args.run / "config.yaml", [*ONE_RANK, *args.overrides])
    ranks = supervisor.local_ranks(args.nproc or replica_ranks(config))
    replicas = max(1, ranks // replica_ranks(config))
    # Nothing is trained; and ranks wait for one that builds requests, which may take longer than a training step.
    settled = ["batch.micro=1", f"batch.global={replicas}", "batch.ramp=null", "distributed.timeout_seconds=86400"]
    config = load_config(args.run / "config.yaml", [*ONE_RANK, *settled, *args.overrides])
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.evaluation.harness import Source, build_task

    run_tokenizer(config, args.run)
    source = Source(args.data, args.same_shots, args.fast_requests, shuffled=args.limit is not None)
    out = args.out or args.run / "evaluation"
    plan = Plan(tasks, shots, source, args.limit, out, args.batch_tokens)
    for task, count, _ in plan.jobs():  # what can be refused is refused before the ranks start
        build_task(task, count, source)
    make_folder(out)
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs:
        return supervisor.supervise(partial(evaluate, config, args.run, plan), Path(logs), ranks)


def _check(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """Tasks and numbers of examples. Raises InputError for what makes no sense."""
    if not (args.run / "config.yaml").is_file():
        raise InputError(f"{args.run}: has no config.yaml; name the folder of a run")
    tasks = tuple(dict.fromkeys(word for word in args.tasks.split(",") if word))
    if not tasks:
        raise InputError(f"--tasks {args.tasks!r}: names no task; as an example: lambada,hellaswag")
    for name in ("limit", "nproc", "batch_tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be 1 or more")
    if args.data is not None and not args.data.is_dir():
        raise InputError(f"--data {args.data}: is not a folder; name that with the sets in their published files")
    return tasks, tuple(parse_shots(args.shots))


def evaluate(config: RunConfig, folder: Path, plan: Plan, terminal: Terminal) -> int:
    """Evaluate as this process's rank."""
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.evaluation.ranks import Ranks
    from megatron_nlg.evaluation.series import measure_all
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.generation.scoring import Scorer

    generator = Generator(config, folder, run_tokenizer(config, folder))
    ranks = Ranks(generator, Scorer(generator, plan.batch_tokens))
    if generator.context.is_main:
        for problem in generator.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
    ranks.lead(partial(measure_all, ranks, folder, plan, terminal))
    generator.context.barrier()
    generator.context.destroy()
    return 0
