"""A run config -> one readable sbatch file.

The job starts `megatron-nlg train` once a rank under srun; each rank finds its number in SLURM's variables and the
first rank's address in MASTER_ADDR and MASTER_PORT. What is not obvious in the script is explained in the script.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

from megatron_nlg.config.errors import InputError, MegatronNlgError

SCRIPT = Template("""\
#!/bin/bash
# $summary
# Written by `megatron-nlg launch`. Submit it with `sbatch`, again after it ended: training goes on where it was.
$options

$setup
# Variables of a torchrun that this was submitted from would pass for the ranks' own.
unset RANK WORLD_SIZE LOCAL_RANK

# Where the ranks meet: the first node, by its name where that resolves, else by the address that SLURM reaches it at.
node=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | head -n 1)
if getent hosts "$$node" >/dev/null; then
    MASTER_ADDR=$$node
else
    MASTER_ADDR=$$(scontrol -o show node "$$node" | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)
fi
export MASTER_ADDR MASTER_PORT=$$((15000 + SLURM_JOB_ID % 15000))

requeue=
# Ranks save and leave on SIGTERM. It goes to them past srun, which would kill them on a SIGTERM of its own.
# USR1 comes from SLURM, before the time limit or before other jobs take the nodes: then the job is queued again.
trap 'signalled=1; requeue=1; scancel --signal=TERM "$$SLURM_JOB_ID"' USR1
trap 'signalled=1; scancel --signal=TERM "$$SLURM_JOB_ID"' TERM INT

# One rank that fails ends them all. It waits 5 s before that, unless it was killed: most ranks then end by themselves,
# with a code that says why.
# LOCAL_RANK is torchrun's name for the number in the node, and DeepSpeed knows no other.
rank='trap : TERM
    LOCAL_RANK=$$SLURM_LOCALID "$$@"
    code=$$?
    [ "$$code" -eq 0 ] || [ "$$code" -gt 128 ] || sleep 5
    exit "$$code"'
# Ranks use their node's CPUs freely: SLURM would bind each to a single core.
srun --kill-on-bad-exit=1 --cpu-bind=none bash -c "$$rank" rank \\
    $command &
step=$$!
# A trapped signal ends `wait` early, with a code that is not the step's: wait until no signal came in between.
signalled=1
while [ -n "$$signalled" ]; do
    signalled=
    wait "$$step"
    code=$$?
done

# Other jobs took the nodes, without the USR1 above: SLURM told the ranks itself.
if scontrol -o show job "$$SLURM_JOB_ID" | grep -q ' PreemptTime=[0-9]'; then
    requeue=1
fi
if [ -n "$$requeue" ] && [ "$$code" -ne 0 ]; then
    # A script that ends while it is pre-empted counts as failed. SLURM ends this one itself.
    scontrol requeue "$$SLURM_JOB_ID" && sleep 600
fi
exit "$$code"
""")


@dataclass(frozen=True)
class Job:
    """What an sbatch file is made of. Paths are absolute."""

    config: Path
    overrides: tuple[str, ...]
    run: Path
    """The run folder; the script goes to `job.sbatch` in it, its output to `logs/`."""
    nodes: int
    ranks_per_node: int
    summary: str
    """One line for the top of the script."""
    python: Path
    """The interpreter that has this package."""
    directory: Path
    """Where the job runs: paths in the config are relative to it."""
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    gpu_option: str | None = None
    """Such as --gpus-per-node=8; None where SLURM does not manage GPUs."""
    setup: tuple[str, ...] = ()
    """Shell lines before the ranks start."""
    save_seconds: int = 180
    """How long before the time limit the ranks are told to save and leave."""


def batch_script(job: Job) -> str:
    """The sbatch file's text."""
    train = [str(job.python), "-m", "megatron_nlg.cli", "train", str(job.config), "--out", str(job.run)]
    return SCRIPT.substitute(
        summary=job.summary,
        options="\n".join(f"#SBATCH {option}" for option in _options(job)),
        setup="".join(f"{line}\n" for line in job.setup),
        command=" ".join(shlex.quote(word) for word in [*train, *job.overrides]),
    )


def _options(job: Job) -> list[str]:
    options = [
        f"--job-name={_quoted(job.run.name)}",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.ranks_per_node}",
        "--exclusive",
        "--mem=0",  # all of a node's
    ]
    if job.gpu_option:
        options.append(job.gpu_option)
    for name in ("partition", "account", "time"):
        if value := getattr(job, name):
            options.append(f"--{name}={_quoted(value)}")
    return [
        *options,
        f"--chdir={_quoted(str(job.directory))}",
        # %j is the job's number; a percent sign of the folder's own is doubled.
        f"--output={_quoted(str(job.run / 'logs').replace('%', '%%') + '/slurm-%j.out')}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{job.save_seconds}",
    ]


def _quoted(value: str) -> str:
    """An option's value as sbatch reads it from its file: in double quotes when it has blanks."""
    if any(character in value for character in '\n\r"'):
        raise InputError(
            f"{value!r}: line breaks and double quotes can't be written into an sbatch file; use another name"
        )
    return f'"{value}"' if any(character.isspace() or character == "#" for character in value) else value


def write_script(job: Job) -> Path:
    """Write `job.sbatch` in the run folder, at once: a reader sees the old file or the new one. Returns its path."""
    path = job.run / "job.sbatch"
    text = batch_script(job)
    try:
        (job.run / "logs").mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o755)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"--out {job.run}: {path.name} can't be written there: {error.strerror}") from None
    return path


def submit(script: Path) -> str:
    """Hand the script to SLURM; the job's number."""
    if shutil.which("sbatch") is None:
        raise InputError(f"--submit: sbatch is not installed here; run `sbatch {script}` on the cluster's login node")
    done = subprocess.run(["sbatch", "--parsable", str(script)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise MegatronNlgError(f"sbatch {script} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(";")[0]  # NUMBER;CLUSTER where there are several
