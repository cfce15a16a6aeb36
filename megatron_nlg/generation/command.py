"""`megatron-nlg generate`: continue prompts with a run's model."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.generation.sampling import Sampling
    from megatron_nlg.parallel.supervisor import Terminal

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
    parser.add_argument("--prompt", action="append", required=True, help="text to continue; may be given again")
    parser.add_argument("--max-tokens", type=int, default=100, metavar="N", help="tokens a prompt (default: 100)")
    parser.add_argument("--top-p", type=float, default=0.9, metavar="P", help="share of the probability (default: 0.9)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default: 1.0)")
    parser.add_argument("--greedy", action="store_true", help="the most probable token each time")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (default: 0)")
    parser.add_argument("--save", action="store_true", help=f"append to RUN/{SAMPLES}, which the report shows")
    parser.epilog = "one rank unless the layout asks for more: ranks = parallel.tensor × parallel.pipeline"


def run(args: argparse.Namespace) -> int:
    """Generate; prints each prompt with its continuation."""
    from megatron_nlg.config.validate import load_config, replica_ranks
    from megatron_nlg.parallel import supervisor

    sampling = _sampling(args)
    if not (args.run / "config.yaml").is_file():
        raise InputError(f"{args.run}: has no config.yaml; name the folder of a run")
    config = load_config(args.run / "config.yaml", [*ONE_RANK, *args.overrides])
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    from megatron_nlg.data.tokenizer import run_tokenizer

    run_tokenizer(config, args.run)
    ranks = supervisor.local_ranks(replica_ranks(config))
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs:
        body = partial(generate, config, args.run, args.prompt, sampling, args.save)
        return supervisor.supervise(body, Path(logs), ranks)


def _sampling(args: argparse.Namespace) -> Sampling:
    from megatron_nlg.generation.sampling import Sampling

    for name, value, good, what in (
        ("--max-tokens", args.max_tokens, args.max_tokens >= 1, "1 or more"),
        ("--top-p", args.top_p, 0 < args.top_p <= 1, "above 0 and at most 1"),
        ("--temperature", args.temperature, 0 <= args.temperature < float("inf"), "0 or more"),
        ("--seed", args.seed, 0 <= args.seed < 2**63, "from 0 to 2^63 - 1"),
    ):
        if not good:
            raise InputError(f"{name} {value}: must be {what}")
    return Sampling(0.0 if args.greedy else args.temperature, args.top_p, args.max_tokens, args.seed)


def generate(
    config: RunConfig, folder: Path, prompts: Sequence[str], sampling: Sampling, save: bool, terminal: Terminal
) -> int:
    """Generate as this process's rank; rank 0 prints, and appends to the run's samples."""
    from megatron_nlg.data.tokenizer import run_tokenizer
    from megatron_nlg.generation.generator import Generator

    generator = Generator(config, folder, run_tokenizer(config, folder))
    if generator.context.is_main:
        for problem in generator.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
    for prompt in prompts:
        text = generator.text(prompt, sampling)
        if not generator.context.is_main:
            continue
        print(f"{prompt}{text}", file=terminal.out, flush=True)
        if save:
            row = {"prompt": prompt, "text": text, "step": generator.progress.step, "settings": asdict(sampling)}
            _append(folder / SAMPLES, row)
    generator.context.barrier()
    generator.context.destroy()
    return 0


def _append(path: Path, row: dict[str, object]) -> None:
    """Add a line in one write."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(row, ensure_ascii=False) + "\n").encode())
    finally:
        os.close(handle)
