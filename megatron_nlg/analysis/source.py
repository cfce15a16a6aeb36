"""What may stand where a command says RUN, a run or a folder of transformers, and tasks done with its model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.analysis.representations import Represented
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.parallel.supervisor import Terminal

    Task = Callable[[Represented, Terminal], None]
    """Runs on all ranks; what is found comes to the main one. Must be picklable where ranks are spawned."""


def config_of(folder: Path, overrides: Sequence[str] = ()) -> RunConfig | None:
    """A run's config, on one rank unless `overrides` ask for more; None for a folder of transformers.

    Raises InputError for a folder that is neither.
    """
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.generation.command import ONE_RANK

    if (folder / "config.yaml").is_file():
        return load_config(folder / "config.yaml", [*ONE_RANK, *overrides])
    if (folder / "config.json").is_file():
        return None
    raise InputError(
        f"{folder}: has neither config.yaml nor config.json; name the folder of a run, or of a model of transformers"
    )


def with_model(folder: Path, overrides: Sequence[str], task: Task, step: int | None = None) -> int:
    """Do a task with a model on the ranks that its layout has; returns the exit code.

    Overrides and `step` are for runs; a folder of transformers has one rank.
    """
    from megatron_nlg.config.validate import replica_ranks
    from megatron_nlg.parallel import supervisor

    config = config_of(folder, overrides)
    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    if config:
        import megatron_nlg.analysis.blocks  # forked ranks share it
    else:
        import megatron_nlg.analysis.huggingface  # noqa: F401
    ranks = supervisor.local_ranks(replica_ranks(config) if config else 1)
    with tempfile.TemporaryDirectory(prefix="megatron-nlg-") as logs:
        return supervisor.supervise(partial(_rank, config, folder, step, task), Path(logs), ranks)


def _rank(config: RunConfig | None, folder: Path, step: int | None, task: Task, terminal: Terminal) -> int:
    """This process's part of the task."""
    if config is None:
        from megatron_nlg.analysis.huggingface import HuggingFaceBlocks

        task(HuggingFaceBlocks(folder), terminal)
        return 0
    from megatron_nlg.analysis.blocks import RunBlocks

    model = RunBlocks.of(config, folder, step)
    if model.is_main:
        for problem in model.weights.damaged:
            print(f"damaged checkpoint {problem}; an older one is used", file=terminal.err, flush=True)
    task(model, terminal)
    model.context.barrier()
    model.context.destroy()
    return 0
