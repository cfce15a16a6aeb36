"""The folder of sample indices: built under a temporary name and renamed, the same bytes whoever builds it."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

import psutil

from data_prep.files import sync
from megatron_nlg.config.errors import ConfigError, InputError, MegatronNlgError
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.mixture import open_datasets, total_tells
from megatron_nlg.data.plan import Plan, make_plan, split_problems


def checked_plan(config: RunConfig, run_folder: Path | None) -> Plan:
    """The plan, or an InputError also for sources that do not fill a sample."""
    plan = make_plan(config, run_folder)
    problems = list(split_problems(plan))
    if problems:
        raise ConfigError(problems, str(config.data.blend))
    return plan


def build_index(plan: Plan) -> bool:
    """Make the plan's index folder, with progress on a terminal; False when it is there already.

    Raises InputError for a folder that can't be written, MegatronNlgError for a full disk; nothing is left of either.
    """
    if plan.index.is_dir():
        return False
    folder = plan.index.parent
    staging = folder / f".{plan.index.name}.{socket.gethostname()}.{os.getpid()}"
    try:
        staging.mkdir(parents=True)
        _remove_leftovers(folder, staging)
        _build(plan, staging)
        for file in staging.iterdir():
            sync(file)
        sync(staging)
        try:
            staging.rename(plan.index)
        except OSError:
            if not plan.index.is_dir():  # else another job that shares the folder was first, with the same content
                raise
        sync(folder)
    except OSError as error:
        raise _index_error(error, folder) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def _build(plan: Plan, folder: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("building sample indices"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total_tells(plan), completed=-1)  # each call ends what the one before it began
        open_datasets(plan, folder, lambda what: bar.update(task, advance=1, description=what))


def _remove_leftovers(folder: Path, own: Path) -> None:
    """Remove what killed builds of this host left behind."""
    for path in folder.glob(f".*.{socket.gethostname()}.*"):
        pid = path.name.rpartition(".")[2]
        if path != own and pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _index_error(error: OSError, folder: Path) -> MegatronNlgError:
    what = f"data.index_cache: the sample indices can't be written to {folder}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        return InputError(f"{what}; set data.index_cache to a folder that can be written")
    return MegatronNlgError(f"{what}; free some space, or set data.index_cache to a folder on another disk")
