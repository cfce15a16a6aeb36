"""`megatron-nlg train`: starts local ranks, or is one of the ranks that torchrun or srun started."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.parallel.supervisor import Terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder; an existing run goes on")
    parser.add_argument("--nproc", type=int, metavar="N", help="local ranks to start (default: one a GPU, else 1)")
    parser.add_argument("--master-port", type=int, metavar="PORT", help="port of the rendezvous (default: a free one)")
    parser.epilog = "exit codes: 0 done, 1 failed, 2 bad input, 3 stopped by a signal with the state saved"


def run(args: argparse.Namespace) -> int:
    """Train. Returns the exit code of the job."""
    from megatron_nlg.config.validate import data_parallel_size, load_config
    from megatron_nlg.parallel import supervisor
    from megatron_nlg.parallel.context import Rendezvous

    supervisor.quiet_libraries()
    logs, who = args.out / "logs", Rendezvous.from_environment()
    if who is not None:
        try:
            config = with_absolute_paths(load_config(args.config, args.overrides, who.world_size))
            make_run_folder(args.out)
        except InputError:
            supervisor.yield_to_main(who.rank)
            raise
        return supervisor.be_rank(partial(train, config, args.out), logs)

    config = with_absolute_paths(load_config(args.config, args.overrides))
    ranks = supervisor.local_ranks(args.nproc)
    data_parallel_size(config, ranks)
    if args.master_port is not None:
        supervisor.check_port(args.master_port)
    make_run_folder(args.out)
    _check_data(config, args.out)
    return supervisor.supervise(partial(train, config, args.out), logs, ranks, args.master_port)


def train(config: RunConfig, folder: Path, terminal: Terminal) -> int:
    """Train as this process's rank; returns 0, or STOPPED when a signal asked to stop."""
    from megatron_nlg.parallel.supervisor import STOPPED
    from megatron_nlg.training.trainer import Trainer

    trainer = Trainer(config, folder, terminal.err)
    status = trainer.train()
    trainer.close()
    return STOPPED if status == "signal" else 0


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The run folder's config.yaml must find the corpus and other runs from any current directory."""
    data, checkpoint = config.data, config.checkpoint

    def absolute(path: str | None) -> str | None:
        return None if path is None else str(Path(path).resolve())

    update = {
        "blend": absolute(data.blend),
        "stages": tuple(stage.model_copy(update={"blend": absolute(stage.blend)}) for stage in data.stages),
        "validation": {name: absolute(path) for name, path in data.validation.items()},
    }
    return config.model_copy(
        update={
            "data": data.model_copy(update=update),
            "checkpoint": checkpoint.model_copy(update={"load_from": absolute(checkpoint.load_from)}),
        }
    )


def make_run_folder(folder: Path) -> None:
    """The run folder with its logs, or an InputError that says why not."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"--out {folder}: can't be written: {os.strerror(error.errno or 0)}; choose another folder"
        ) from None


def _check_data(config: RunConfig, folder: Path) -> None:
    """Open what is read before a rank starts, and import what ranks need, so that forked ones share it."""
    from megatron_nlg.parallel.supervisor import prepare_fork

    prepare_fork()
    import megatron_nlg.training.trainer  # noqa: F401
    from megatron_nlg.data.plan import make_plan
    from megatron_nlg.training.checkpoint.format import locate, steps_in

    make_plan(config, folder)
    if config.checkpoint.load_from is not None and not steps_in(folder / "checkpoints"):
        locate(Path(config.checkpoint.load_from))
