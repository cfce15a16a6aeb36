"""Many short commands as one array of SLURM jobs: one readable sbatch file. A job is one process on one node."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from launch.slurm import Script, quoted

SCRIPT = Script(r"""#!/bin/bash
# %{count} runs of `megatron-nlg %{command}`, one a job of this array; those that have ended before do nothing.
# Written by `megatron-nlg %{command} --slurm`. Submit it with `sbatch`, and again after jobs failed: they go on.
%{options}

%{environment}%{setup}# Variables of a torchrun that this was submitted from would pass for the run's own.
unset RANK WORLD_SIZE LOCAL_RANK

# SLURM sends USR1 before the time limit, TERM when the job is cancelled: the run saves and leaves with code 3.
time_is_up= signalled=
trap 'signalled=1; time_is_up=1; kill -TERM "$run"' USR1
trap 'signalled=1; kill -TERM "$run"' TERM INT

%{words} \
    --task "$SLURM_ARRAY_TASK_ID" &
run=$!
# A trapped signal ends `wait` early, with a code that is not the run's: wait until no signal came in between.
signalled=1
while [ -n "$signalled" ]; do
    signalled=
    wait "$run"
    code=$?
done

# Stopped by its time limit (143: before it could save), and not by a person: it goes on when it is its turn again.
if [ -n "$time_is_up" ] && { [ "$code" -eq 3 ] || [ "$code" -eq 143 ]; }; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" && sleep 600
fi
exit "$code"
""")


@dataclass(frozen=True)
class ArrayJob:
    """A command that does the I-th of `count` things when it is given `--task I`. Paths are absolute."""

    words: tuple[str, ...]
    """The subcommand and its arguments."""
    folder: Path
    """Where the script goes, its output to `logs/`."""
    count: int
    at_once: int
    cpus: int
    python: Path
    directory: Path
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    gpu_option: str | None = None
    environment: tuple[tuple[str, str, str], ...] = ()
    setup: tuple[str, ...] = ()
    save_seconds: int = 60
    """How long before its time limit a run is told to save."""


def array_script(job: ArrayJob) -> str:
    """The sbatch file's text."""
    return SCRIPT.substitute(
        count=job.count,
        command=job.words[0],
        options="\n".join(f"#SBATCH {option}" for option in _options(job)),
        environment="".join(f"# {why}\nexport {n}={shlex.quote(v)}\n" for n, v, why in job.environment),
        setup="".join(f"{line}\n" for line in job.setup),
        words=shlex.join([str(job.python), "-m", "megatron_nlg.cli", *job.words]),
    )


def _options(job: ArrayJob) -> list[str]:
    given = (("partition", job.partition), ("account", job.account), ("time", job.time))
    return [
        f"--job-name={quoted(job.folder.name)}",
        f"--array=0-{job.count - 1}%{job.at_once}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={job.cpus}",
        *([job.gpu_option] if job.gpu_option else []),
        *(f"--{name}={quoted(str(value))}" for name, value in given if value),
        f"--chdir={quoted(str(job.directory))}",
        # %A and %a are the array's number and the job's in it; a percent sign of the folder's own is doubled.
        f"--output={quoted(str(job.folder / 'logs').replace('%', '%%') + '/slurm-%A_%a.out')}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{job.save_seconds}",
    ]
