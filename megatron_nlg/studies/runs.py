"""Ordinary runs of `train`, one after the other or several at once, forked from one process that has the libraries.

Importing torch and DeepSpeed takes longer than a short run of a small model. Each run has its own run folder; what it
printed is in logs/train.log, how it ended in outcome.json. A run that has ended is not run again, one that was killed
goes on by the rules of `train`. While a run is at work it holds a lock in its folder, so that two commands on the same
folder never train in it together.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megatron_nlg.config.errors import InputError, MegatronNlgError, NumericError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.training.callbacks.metrics import EVENTS, METRICS

OUTCOME, LOCK, OUTPUT = "outcome.json", ".lock", "train.log"
STOPPED = 3
PR_SET_PDEATHSIG = 1
MOVABLE = ("data.index_cache",)
"""Settings in which a run may differ from what is in its folder."""
POLL_SECONDS = 0.1
AGAIN_SECONDS = 3.0


@dataclass(frozen=True)
class Run:
    """A run of `train`."""

    name: str
    folder: Path
    config: Path
    overrides: tuple[str, ...]
    ranks: int = 1
    fresh: bool = False
    """Start anew where it was killed, for times that nothing interrupts; else go on from its checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int
    """Exit code of `train`; negative for the signal that killed it."""
    error: str | None = None
    seconds: float = 0.0
    """From its fork to its end, of the last attempt."""

    @property
    def settled(self) -> bool:
        """Whether running it again would only repeat it: it is done, or went wrong numerically."""
        return self.code in (0, NumericError.exit_code)


def read_outcome(folder: Path) -> Outcome | None:
    """How the run in a folder ended; None when it has not."""
    try:
        tree = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        return Outcome(int(tree["code"]), tree["error"], float(tree["seconds"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / OUTCOME}: can't be read ({error}); delete it to run this run again") from None


def warm_up() -> None:
    """Import what runs need, so that forked ones share it."""
    from megatron_nlg.parallel import supervisor

    supervisor.quiet_libraries()
    supervisor.prepare_fork()
    import torch.distributed.launcher.api  # noqa: F401

    import megatron_nlg.data.plan
    import megatron_nlg.data.tokenizer
    import megatron_nlg.evaluation.live
    import megatron_nlg.planning.fit
    import megatron_nlg.training.trainer  # noqa: F401


def settle(runs: Sequence[Run], parallel: int, ended: Callable[[Run, Outcome], None]) -> bool:
    """Run those that have not ended, `parallel` at once; `ended` is told of each, in the order they end.

    Returns False when a signal asked to stop: runs at work have then saved their state. Raises InputError for a folder
    that holds a run of other settings.
    """
    waiting = [run for run in runs if not ((outcome := read_outcome(run.folder)) and outcome.settled)]
    for run in runs:
        check_folder(run)
    if not waiting:
        return True
    warm_up()
    slots = _slots(parallel, max(run.ranks for run in waiting))
    working: dict[int, tuple[Run, Any]] = {}
    stopping = _Stopping()
    with _caught() as stops:
        while working or (waiting and not stops):
            for slot in [slot for slot, (_, process) in working.items() if not process.is_alive()]:
                run, process = working.pop(slot)
                process.join()
                ended(run, _ending(run, process.exitcode))
            while waiting and not stops and (free := [slot for slot in range(parallel) if slot not in working]):
                run = waiting.pop(0)
                process = multiprocessing.get_context("fork").Process(target=_be_run, args=(run, slots[free[0]]))
                process.start()
                working[free[0]] = run, process
            if stops:
                stopping.ask(stops, [process for _, process in working.values()])
            time.sleep(POLL_SECONDS)
    return not stops


def _ending(run: Run, code: int) -> Outcome:
    """The outcome of a run whose process has ended; one that could not say it itself was killed."""
    outcome = read_outcome(run.folder)
    if outcome is None:
        if code == STOPPED:
            return Outcome(code, "stopped by a signal, its state saved")
        outcome = Outcome(code, f"killed by signal {-code}: from outside, or for want of memory")
        write_outcome(run.folder, outcome)
    return outcome


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Atomically."""
    from data_prep.files import write_json

    write_json(folder / OUTCOME, asdict(outcome))


def drop_checkpoints(folder: Path) -> None:
    """What a run that has ended is not started from again."""
    remove(folder / "checkpoints")


def remove(path: Path) -> None:
    """A file or a folder, where it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ---- folders ---------------------------------------------------------------------------------------------------------


def resolved(config: Path, overrides: Sequence[str], ranks: int | None = None) -> RunConfig:
    """The config as `train` writes it to the run folder. Raises ConfigError."""
    from megatron_nlg.config.validate import load_config
    from megatron_nlg.data.labelled import with_epochs
    from megatron_nlg.training.command import with_absolute_paths

    return with_epochs(with_absolute_paths(load_config(config, overrides, ranks)))


def check_folder(run: Run) -> None:
    """Raise InputError, naming the settings, when the folder holds a run of others."""
    from megatron_nlg.config.validate import load_config

    path = run.folder / "config.yaml"
    if not path.is_file():
        return
    there, wanted = (dict(flat(c)) for c in (load_config(path), resolved(run.config, run.overrides)))
    keys = [key for key in wanted if key not in MOVABLE and there.get(key) != wanted[key]]
    if keys:
        said = ", ".join(f"{key} {there.get(key)} and not {wanted[key]}" for key in keys[:3])
        raise InputError(f"{run.folder}: holds a run of other settings: {said}; set them back, or choose another --out")


def flat(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting."""

    def leaves(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in tree.items():
            if isinstance(value, dict) and value:
                yield from leaves(f"{prefix}{key}.", value)
            else:
                yield prefix + key, value

    yield from leaves("", config.model_dump(mode="json", by_alias=True))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone with a folder among all who lock it."""
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---- processes -------------------------------------------------------------------------------------------------------


def _slots(parallel: int, ranks: int) -> list[dict[str, str]]:
    """Environment of the runs that are at work together: their share of the cores, or GPUs of their own."""
    from megatron_nlg.parallel.device import local_device_count

    gpus = local_device_count()
    if gpus is None:
        if "OMP_NUM_THREADS" in os.environ or parallel == 1:
            return [{}] * parallel
        cores = len(os.sched_getaffinity(0))
        return [{"OMP_NUM_THREADS": str(max(1, cores // (parallel * ranks)))}] * parallel
    if parallel * ranks > gpus:
        raise InputError(f"--parallel {parallel}: runs of {ranks} ranks need a GPU each, and there are {gpus}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    names = visible.split(",")
    return [{"CUDA_VISIBLE_DEVICES": ",".join(names[i * ranks : (i + 1) * ranks])} for i in range(parallel)]


@contextlib.contextmanager
def _caught() -> Iterator[list[int]]:
    """Signals that ask to stop, as they come."""
    from megatron_nlg.parallel.supervisor import STOP_SIGNALS

    received: list[int] = []
    before = {number: signal.signal(number, lambda got, frame: received.append(got)) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stopping:
    """Asks runs to save and leave, until they do: one that is just being forked may not hear it."""

    def __init__(self) -> None:
        self.next = 0.0

    def ask(self, stops: Sequence[int], processes: Sequence[Any]) -> None:
        """Pass a stop on when it is time. The third Ctrl-C ends runs at once."""
        force = stops.count(signal.SIGINT) >= 3
        if not force and time.monotonic() < self.next:
            return
        self.next = time.monotonic() + AGAIN_SECONDS
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL if force else signal.SIGTERM)


def _be_run(run: Run, environment: Mapping[str, str]) -> None:
    """The forked process of a run: `train` itself, its words in a file, its end in outcome.json."""
    parent = os.getppid()
    os.setsid()  # Ctrl-C is for the study, which passes it on
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    # A study that is killed leaves no runs behind: they save, and leave.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(STOPPED)
    os.environ.update(environment)
    start = time.monotonic()
    (run.folder / "logs").mkdir(parents=True, exist_ok=True)
    lock = os.open(run.folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)  # ranks inherit it: it is free when the last of them has gone
    _redirect(run.folder / "logs" / OUTPUT)
    if (outcome := read_outcome(run.folder)) and outcome.settled:  # by who had the lock
        os._exit(max(0, outcome.code))
    (run.folder / OUTCOME).unlink(missing_ok=True)
    if run.fresh:
        for name in ("checkpoints", METRICS, EVENTS):
            remove(run.folder / name)
    code, error = _train(run)
    if code != STOPPED:
        write_outcome(run.folder, Outcome(code, error, round(time.monotonic() - start, 3)))
    sys.stdout.flush()
    os._exit(code)


def _train(run: Run) -> tuple[int, str | None]:
    """Exit code and message of `megatron-nlg train`."""
    import argparse

    from megatron_nlg.evaluation import live

    parser = argparse.ArgumentParser()
    live.add_arguments(parser)
    words = [str(run.config), *run.overrides, "--out", str(run.folder), "--nproc", str(run.ranks)]
    try:
        return live.run(parser.parse_args(words)), None
    except MegatronNlgError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code, " ".join(str(error).split())
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        print(message, file=sys.stderr, flush=True)
        return 1, message


def _redirect(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, stream in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, stream)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
