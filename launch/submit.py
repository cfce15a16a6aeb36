"""Scripts into the run folder, and jobs into SLURM's queue."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from megatron_nlg.config.errors import InputError, MegatronNlgError


def write_script(run: Path, name: str, text: str) -> Path:
    """Write a script in the run folder, at once: a reader sees the old file or the new one. Returns its path."""
    path = run / name
    try:
        (run / "logs").mkdir(parents=True, exist_ok=True)  # SLURM does not make the folder of a job's output
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
        raise InputError(f"--out {run}: {name} can't be written there: {error.strerror}") from None
    return path


def submit(script: Path, jobs: int = 1) -> list[str]:
    """Hand the script to SLURM, so many times, each to start when the one before it has ended; the jobs' numbers.

    The number of the job before is the script's argument. A chain that can't be submitted whole is withdrawn.
    """
    if shutil.which("sbatch") is None:
        raise InputError(f"--submit: sbatch is not installed here; run `sbatch {script}` on the cluster's login node")
    numbers: list[str] = []
    for _ in range(jobs):
        after = [f"--dependency=afterany:{numbers[-1]}"] if numbers else []
        command = ["sbatch", "--parsable", *after, str(script), *numbers[-1:]]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            if numbers:
                subprocess.run(["scancel", *numbers], check=False, capture_output=True)
            raise MegatronNlgError(f"sbatch {script} failed: {done.stderr.strip() or done.stdout.strip()}")
        numbers.append(done.stdout.strip().partition(";")[0])  # NUMBER;CLUSTER where there are several
    return numbers
