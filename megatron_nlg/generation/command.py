"""`megatron-nlg generate`: continue prompts with a run's model."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.generation.generator import Generator
    from megatron_nlg.generation.sampling import Sampling
    from megatron_nlg.parallel.supervisor import Terminal

    Task = Callable[[Generator, Terminal], None]

SAMPLES = "samples.jsonl"
ONE_RANK = (
    "parallel.tensor=1",
    "parallel.pipeline=1",
    "parallel.interleave=1",
    "parallel.sequence=false",
    "parallel.zero_stage=1",
    "parallel.context=1",
    "parallel.offload_optimizer=false",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="layout to generate in, such as parallel.tensor=2"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", action="append", help="text to continue; may be given again")
    what.add_argument("--file", type=Path, help="prompts: .txt, one a line, or .jsonl, objects with `prompt`")
    what.add_argument("--interactive", action="store_true", help="prompts from the keyboard, text as it comes")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.jsonl", help="where --file's continuations go; goes on with what is there"
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="texts at once (default: 16)")
    parser.add_argument("--max-tokens", type=int, default=100, metavar="N", help="tokens a prompt (default: 100)")
    parser.add_argument("--top-p", type=float, default=0.9, metavar="P", help="share of the probability (default: 0.9)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="most probable tokens only (default: 0, all)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default: 1.0)")
    parser.add_argument("--greedy", action="store_true", help="the most probable token each time")
    parser.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1: fewer repetitions (default: 1.0)"
    )
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="ends a text; may be given again")
    parser.add_argument(
        "--logprobs", type=int, metavar="N", help="in --out: tokens' log-probabilities, and the N highest"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (default: 0)")
    parser.add_argument("--save", action="store_true", help=f"append to RUN/{SAMPLES}, which the report shows")
    parser.epilog = "one rank unless the layout asks for more: ranks = parallel.tensor × parallel.pipeline"


def run(args: argparse.Namespace) -> int:
    """Generate; returns the exit code."""
    from megatron_nlg.config.validate import load_config, replica_ranks
    from megatron_nlg.parallel import supervisor

    sampling = _sampling(args)
    if not (args.run / "config.yaml").is_file():
        raise InputError(f"{args.run}: has no config.yaml; name the folder of a run")
    config = load_config(args.run / "config.yaml", [*ONE_RANK, *args.overrides])
    if config.classes:
        raise InputError(f"{args.run}: is a classifier, which has no next token to give; use classify")
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    from megatron_nlg.data.tokenizer import run_tokenizer

    run_tokenizer(config, args.run)
    ranks = supervisor.local_ranks(replica_ranks(config))
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs, _task(args, sampling, Path(logs)) as task:
        code = supervisor.supervise(partial(generate, config, args.run, task), Path(logs), ranks)
    if args.interactive:
        print()
        return 0 if code == supervisor.STOPPED else code  # Ctrl-C is a way to say that it is enough
    return code


@contextmanager
def _task(args: argparse.Namespace, sampling: Sampling, folder: Path) -> Iterator[Task]:
    """What the ranks do with the model, with all that can be refused before they start."""
    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: must be 1 or more")
    if (args.out is None) != (args.file is None):
        raise InputError("--file and --out belong together; give both, or --prompt")
    if args.save and not args.prompt:
        raise InputError("--save: keeps what --prompt gives; leave it out, --file writes to --out")
    if args.logprobs is not None and not args.file:
        raise InputError("--logprobs: are written by --file to --out; leave it out")
    if args.out and not args.out.parent.is_dir():
        raise InputError(f"--out {args.out}: {args.out.parent} is not a folder; make it first")
    from megatron_nlg.generation import tasks
    from megatron_nlg.generation.jobs import read_prompts

    if args.prompt:
        yield partial(
            tasks.print_all, args.prompt, sampling, args.batch_size, args.run / SAMPLES if args.save else None
        )
    elif args.file:
        yield partial(tasks.write_all, read_prompts(args.file), sampling, args.batch_size, args.out)
    else:
        with tasks.keyboard(folder / "prompts") as spool:
            yield partial(tasks.converse, spool, sampling)


def _sampling(args: argparse.Namespace) -> Sampling:
    from megatron_nlg.generation.sampling import Sampling

    sampling = Sampling(
        0.0 if args.greedy else args.temperature,
        args.top_p,
        args.max_tokens,
        args.seed,
        args.top_k,
        args.repetition_penalty,
        tuple(args.stop),
        args.logprobs,
    )
    sampling.check()
    return sampling


def generate(config: RunConfig, folder: Path, task: Task, terminal: Terminal) -> int:
    """Do a task as this process's rank."""
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.generation.generator import Generator

    generator = Generator(config, folder, run_tokenizer(config, folder))
    if generator.context.is_main:
        for problem in generator.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
    task(generator, terminal)
    generator.context.barrier()
    generator.context.destroy()
    return 0
