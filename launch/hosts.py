"""Nodes without SLURM, reached by ssh: a hostfile and a script that starts the ranks. The user starts the script."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template

from launch.job import Job
from megatron_nlg.config.errors import InputError

PORT = 29500
"""torch's own default for the rendezvous."""


class Script(Template):
    """Text with %{names}: dollar signs are bash's own."""

    delimiter = "%"


DEEPSPEED = Script(r"""#!/bin/bash
# %{summary}
# Written by `megatron-nlg launch`. Start it again after it ended: training goes on where it was.
cd %{directory} || exit 1

# DeepSpeed's launcher reaches the nodes by pdsh; --launcher_args and .deepspeed_env are its own to change.
%{python} -m deepspeed.launcher.runner --hostfile %{run}/hostfile --master_addr %{first} --master_port %{port} \
    --no_local_rank --module megatron_nlg.cli %{train}
""")
TORCHRUN = Script(r"""#!/bin/bash
# %{summary}
# Written by `megatron-nlg launch`. Start it again after it ended: training goes on where it was.

train=(%{train})
hosts=(%{hosts})
launchers=()
for node in "${!hosts[@]}"; do
    torchrun=(%{python} -m torch.distributed.run --nnodes=%{nodes} --nproc-per-node=%{ranks_per_node}
        --node-rank="$node" --master-addr=%{first} --master-port=%{port} -m megatron_nlg.cli "${train[@]}")
    # -tt: what runs there ends with the ssh that started it. ssh's shell there takes the command apart once more.
    ssh -tt -o BatchMode=yes "${hosts[$node]}" "cd %{directory} && exec ${torchrun[*]@Q}" </dev/null &
    launchers+=($!)
done
# The first node that fails ends them all.
trap 'kill "${launchers[@]}" 2>/dev/null' EXIT
trap 'exit 130' INT TERM
code=0
for _ in "${launchers[@]}"; do
    wait -n || { code=$?; break; }
done
exit "$code"
""")


def read_hosts(path: Path) -> list[str]:
    """Names of nodes, one a line; what follows a # is a comment, and so is DeepSpeed's `slots=N`. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--hosts {path}: can't be read: {error}") from None
    hosts: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, rest = words[0], words[1:]
        if not re.fullmatch(r"[\w][\w.:-]*", name) or any(not re.fullmatch(r"slots=\d+", word) for word in rest):
            raise InputError(f"{path}:{number}: found {line.strip()!r}, expected the name of a node")
        if name in hosts:
            raise InputError(f"{path}:{number}: {name} was named before; ranks of a node are told by --ranks-per-node")
        hosts.append(name)
    if not hosts:
        raise InputError(f"{path}: names no node; write one a line")
    return hosts


def hostfile(hosts: list[str], ranks_per_node: int) -> str:
    """The nodes as DeepSpeed's launcher reads them."""
    return "".join(f"{host} slots={ranks_per_node}\n" for host in hosts)


def host_script(job: Job, hosts: list[str]) -> str:
    """A script that starts the job's ranks on the hosts and waits for them."""
    template = DEEPSPEED if job.launcher == "deepspeed" else TORCHRUN
    return template.substitute(
        summary=job.summary,
        directory=shlex.quote(str(job.directory)),
        python=shlex.quote(str(job.python)),
        run=shlex.quote(str(job.run)),
        train=shlex.join(["train", str(job.config), *job.overrides, "--out", str(job.run)]),
        first=hosts[0],
        port=PORT,
        hosts=shlex.join(hosts),
        nodes=job.nodes,
        ranks_per_node=job.ranks_per_node,
    )
