"""`megatron-nlg train`: training, with evaluation tasks measured on the model every so many steps.

Training does not know of evaluation, which lies above it: what measures is handed to it here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_nlg.training import command

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.evaluation.harness import Source
    from megatron_nlg.model.gpt import GPT
    from megatron_nlg.parallel.context import ParallelContext

add_arguments = command.add_arguments


def run(args: argparse.Namespace) -> int:
    """Train. Returns the exit code of the job."""
    from megatron_nlg.config.validate import load_config

    config = load_config(args.config, args.overrides)
    if not config.evaluation.tasks:
        return command.run(args)
    from megatron_nlg.parallel import supervisor

    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    from megatron_nlg.evaluation.harness import build_task

    for task in config.evaluation.tasks:  # what can be refused is refused before the ranks start
        build_task(task, config.evaluation.task_shots, _source(config))
    return command.run(args, Tasks(args.out))


def _source(config: RunConfig) -> Source:
    from megatron_nlg.evaluation.harness import Source

    data = config.evaluation.task_data
    return Source(None if data is None else Path(data), fast_requests=True, shuffled=True)


class Tasks:
    """Measures a run's evaluation.tasks; see trainer.Measure."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(
        self, config: RunConfig, context: ParallelContext, chunks: Sequence[GPT], beat: Callable[[], None]
    ) -> list[dict[str, Any]]:
        """A row a task, on rank 0."""
        from megatron_nlg.data.tokenizer import run_tokenizer
        from megatron_nlg.evaluation.adaptor import ParallelLM
        from megatron_nlg.evaluation.harness import build_task, measure
        from megatron_nlg.evaluation.ranks import Ranks
        from megatron_nlg.generation.generator import Generator
        from megatron_nlg.generation.scoring import Scorer

        generator = Generator.over(config, context, chunks, run_tokenizer(config, self.folder))
        ranks = Ranks(generator, Scorer(generator), beat)
        wanted = config.evaluation

        def work() -> list[dict[str, Any]]:
            lm = ParallelLM(ranks)
            return [
                {
                    "task": task,
                    "shots": wanted.task_shots,
                    **measure(lm, build_task(task, wanted.task_shots, _source(config)), wanted.task_limit),
                }
                for task in wanted.tasks
            ]

        return ranks.lead(work) or []
