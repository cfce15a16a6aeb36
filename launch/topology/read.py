"""One reader for all formats: what a file is, it says itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from launch.topology.ibnetdiscover import parse_ibnetdiscover
from launch.topology.model import Topology, malformed
from launch.topology.models import parse_model
from launch.topology.nccl import parse_nccl
from launch.topology.nvidia_smi import parse_nvidia_smi
from launch.topology.slurm import collect_addresses, parse_addresses, parse_slurm, show_topology
from launch.topology.slurm_yaml import parse_slurm_yaml
from megatron_nlg.config.errors import InputError

Parser = Callable[[str, str], Topology]

SCONTROL, SRUN = "scontrol", "srun"
"""In place of a file: ask the SLURM that is here for its switches, or each node of this allocation for its address."""
FORMATS: tuple[tuple[str, Parser], ...] = (
    (r"^\s*(<\?xml|<!--|<!DOCTYPE|<system\b)", parse_nccl),
    (r"(?m)^(Switch|Ca|Rt)\s+\d+\s+\"", parse_ibnetdiscover),
    (r"(?im)^\s*(SwitchName|BlockName|AggregatedBlock)\s*=", parse_slurm),
    (r"(?m)^\S+[ \t]+\S+[ \t]+((switch|block)\.)*node\s*$", parse_addresses),
    (r"(?m)^(\x1b\[[0-9;]*m|\s)*GPU0\b", parse_nvidia_smi),
    (r"(?m)^\s*-\s+[\"']?topology[\"']?\s*:|\A\s*\[[\s\S]*[\"']?topology[\"']?\s*:", parse_slurm_yaml),
    (r"(?m)^[\"']?switches[\"']?\s*:|\A\s*\{[\s\S]*[\"']?switches[\"']?\s*:", parse_model),
)
"""What a text has in it -> how it is read; the first that is there counts."""


def read_topology(source: str | Path) -> Topology:
    """Read a file of any known format, or SLURM's own answer to `scontrol` or `srun`. Raises InputError."""
    if str(source) == SCONTROL:
        return parse_topology(show_topology(), "scontrol show topology")
    if str(source) == SRUN:
        return parse_topology(collect_addresses(), "SLURM_TOPOLOGY_ADDR")
    try:
        text = Path(source).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{source}:{line}: found a byte that is not UTF-8, expected text") from None
    except OSError as error:
        raise InputError(
            f"topology {source}: can't be read: {error.strerror}; give a file, {SCONTROL} or {SRUN}"
        ) from None
    return parse_topology(text, str(source))


def parse_topology(text: str, source: str) -> Topology:
    """Read a text of any known format. Raises InputError."""
    if "No topology information" in text:
        raise InputError(f"{source}: this SLURM knows no topology (topology/flat); give a file instead")
    for pattern, parse in FORMATS:
        if re.search(pattern, text):
            return parse(text, source)
    line, first = next(((i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()), (1, "an empty file"))
    raise malformed(
        source,
        line,
        first.strip(),
        "topology.conf or .yaml, `scontrol show topology`, lines of node, SLURM_TOPOLOGY_ADDR and its pattern, "
        "ibnetdiscover, `nvidia-smi topo -m`, NCCL's topology XML, or YAML or JSON with switches",
    )
