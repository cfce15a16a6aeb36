"""`megatron-nlg train`: starts local ranks, or is one of the ranks that torchrun or srun started."""

from __future__ import annotations

import argparse
import os
import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_nlg.config.errors import InputError

if TYPE_CHECKING:
    from megatron_nlg.config.schema import RunConfig
    from megatron_nlg.parallel.rendezvous import Rendezvous
    from megatron_nlg.parallel.supervisor import Terminal
    from megatron_nlg.training.trainer import Measure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="run config (YAML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder; an existing run goes on")
    parser.add_argument("--nproc", type=int, metavar="N", help="local ranks to start (default: one a GPU, else 1)")
    parser.add_argument("--master-port", type=int, metavar="PORT", help="port of the rendezvous (default: a free one)")
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="N",
        help="start local ranks again, from the newest whole checkpoint, when one died or hung (default %(default)s)",
    )
    parser.add_argument(
        "--time-limit",
        metavar="TIME",
        help="save and leave so early that the job has ended after TIME: seconds, or such as 90m or 4h",
    )
    parser.add_argument(
        "--placement",
        type=Path,
        metavar="FILE",
        help="placement.json of `megatron-nlg plan`: ranks that are not where it has them end the job at once",
    )
    parser.epilog = (
        "exit codes: 0 done, 1 failed, 2 bad input, 3 stopped by a signal or the time limit with the state saved, "
        "4 node fault (a rank hangs or holds corrupted weights), 5 numeric failure"
    )


def run(args: argparse.Namespace, measure: Measure | None = None) -> int:
    """Train, with what measures evaluation.tasks. Returns the exit code of the job."""
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.data.labelled import with_epochs
    from megatron_nlg.parallel.rendezvous import Rendezvous
    from megatron_nlg.planning.fit import load_fitting
    from megatron_nlg.training.room import local_room

    if args.max_restarts < 0:
        raise InputError(f"--max-restarts {args.max_restarts}: a number from 0 is expected")
    deadline = None if args.time_limit is None else time.time() + seconds_of(args.time_limit)
    logs, who = args.out / "logs", Rendezvous.from_environment()
    if who is not None:
        config = _as_rank(args, who)
        from megatron_nlg.parallel import supervisor

        supervisor.quiet_libraries()
        return supervisor.be_rank(partial(train, config, args.out, deadline, measure), logs)

    if args.placement:
        raise InputError("--placement: is checked by ranks that srun or torchrun started; leave it out")
    from megatron_nlg.parallel import supervisor

    supervisor.quiet_libraries()
    load_config(args.config, args.overrides)  # what needs no torch is said before it is imported
    ranks = supervisor.local_ranks(args.nproc)
    config = with_epochs(with_absolute_paths(load_fitting(args.config, args.overrides, ranks, local_room(ranks))))
    if args.master_port is not None:
        supervisor.check_port(args.master_port)
    make_run_folder(args.out)
    _check_data(config, args.out)
    body = partial(train, config, args.out, deadline, measure)
    return supervisor.supervise(body, logs, ranks, args.master_port, args.max_restarts)


def _as_rank(args: argparse.Namespace, who: Rendezvous) -> RunConfig:
    """All that can be refused before torch is imported, as one of the ranks that a launcher started; the config."""
    from megatron_nlg.data.labelled import with_epochs
    from megatron_nlg.parallel.layout import Layout
    from megatron_nlg.parallel.rendezvous import yield_to_main
    from megatron_nlg.planning.fit import load_fitting
    from megatron_nlg.training.room import local_room
    from megatron_nlg.training.startup import check_placement, read_placement

    try:
        if args.max_restarts:
            raise InputError("--max-restarts: these ranks were started by torchrun or srun, which must restart them")
        room = local_room(who.local_ranks)
        config = with_epochs(with_absolute_paths(load_fitting(args.config, args.overrides, who.world_size, room)))
        plan = read_placement(args.placement, who.world_size) if args.placement else None
        make_run_folder(args.out)
    except InputError:
        yield_to_main(who.rank)
        raise
    if plan:
        check_placement(plan, args.placement, who, Layout.of(config.parallel, who.world_size))
    return config


def train(config: RunConfig, folder: Path, deadline: float | None, measure: Measure | None, terminal: Terminal) -> int:
    """Train as this process's rank; returns 0, or STOPPED when a signal or the time limit asked to stop."""
    from megatron_nlg.parallel.supervisor import STOPPED
    from megatron_nlg.training.trainer import Trainer

    trainer = Trainer(config, folder, terminal.err, terminal.fail, deadline, measure)
    status = trainer.train()
    trainer.close()
    return 0 if status == "done" else STOPPED


def seconds_of(text: str) -> float:
    """`5400`, `5400s`, `90m`, `1.5h` or `2d` as seconds. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or not float(match[1]):
        raise InputError(f"--time-limit {text}: a time is expected, in seconds or such as 90m, 4h or 2d")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The run folder's config.yaml must find the corpus and other runs from any current directory."""
    data, checkpoint, evaluation = config.data, config.checkpoint, config.evaluation

    def absolute(path: str | None) -> str | None:
        return None if path is None else str(Path(path).resolve())

    texts = data.classification
    if texts is not None:
        paths = {key: absolute(getattr(texts, key)) for key in ("train", "validation", "tokenizer")}
        texts = texts.model_copy(update=paths)
    update = {
        "classification": texts,
        "blend": absolute(data.blend),
        "stages": tuple(stage.model_copy(update={"blend": absolute(stage.blend)}) for stage in data.stages),
        "validation": {name: absolute(path) for name, path in data.validation.items()},
    }
    return config.model_copy(
        update={
            "data": data.model_copy(update=update),
            "checkpoint": checkpoint.model_copy(update={"load_from": absolute(checkpoint.load_from)}),
            "evaluation": evaluation.model_copy(update={"task_data": absolute(evaluation.task_data)}),
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
    from megatron_nlg.data.tokenizer import classifier_tokenizer
    from megatron_nlg.training.checkpoint.format import locate, steps_in

    if config.task == "classification":
        classifier_tokenizer(config, folder)
    else:
        make_plan(config, folder)
    if config.checkpoint.load_from is not None and not steps_in(folder / "checkpoints"):
        locate(Path(config.checkpoint.load_from))
