"""What a node tells of itself: its GPUs and their errors, and whether the run folder can be written."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

FATAL_XID = {48, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120, 140}
"""NVIDIA's Xid errors after which a GPU is not to be used before it was reset: memory, NVLink, bus, firmware."""
PROBE_BYTES = 32 << 20


def node_name() -> str:
    """SLURM's name of this node, else the host's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def gpu_problems(expected: int) -> list[str]:
    """Missing GPUs and memory errors that they report. Without `expected` GPUs nothing is looked for."""
    if not expected:
        return []
    rows = _ask("nvidia-smi", "--query-gpu=index,ecc.errors.uncorrected.volatile.total", "--format=csv,noheader")
    if rows is None:
        return ["nvidia-smi does not answer"]
    lines = [line.split(",") for line in rows.splitlines() if line.strip()]
    problems = [f"{len(lines)} GPUs, {expected} are expected"] if len(lines) < expected else []
    for index, errors in ((line[0].strip(), line[1].strip()) for line in lines if len(line) == 2):
        if errors.isdecimal() and int(errors):
            problems.append(f"GPU {index} has {errors} uncorrected memory errors")
    return problems


def kernel_log() -> str | None:
    """The kernel's messages since the node started; None where users may not read them."""
    return _ask("dmesg", "--notime")


def xid_problems(kernel_log: str) -> list[str]:
    """Fatal Xid errors in the kernel's messages."""
    found = re.findall(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)", kernel_log)
    return [f"GPU at {bus}: Xid {code}" for bus, code in sorted(set(found)) if int(code) in FATAL_XID]


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def disk_problems(folder: Path, least_free: int) -> list[str]:
    """Whether a file can be written, synced and read back in the run folder, and how much is free there, in bytes."""
    path = folder / f".preflight.{node_name()}.{os.getpid()}"
    content = os.urandom(1 << 20) * (PROBE_BYTES >> 20)
    try:
        free = shutil.disk_usage(folder).free
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        same = path.read_bytes() == content
    except OSError as error:
        return [f"{folder} can't be written: {error.strerror}"]
    finally:
        path.unlink(missing_ok=True)
    problems = [] if same else [f"{folder}: what was read is not what was written"]
    if free < least_free:
        problems.append(f"{folder}: {free / 1e9:.1f} GB free, {least_free / 1e9:.1f} are needed")
    return problems
