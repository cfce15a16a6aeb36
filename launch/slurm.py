"""A job -> one readable sbatch file.

The job starts `megatron-nlg train` once a rank under srun; each rank finds its number in SLURM's variables and the
first rank's address in MASTER_ADDR and MASTER_PORT. What is not obvious in the script is explained in the script.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from string import Template

from launch.job import Job
from megatron_nlg.config.errors import InputError


class Script(Template):
    """Text with %{names}: dollar signs are bash's own."""

    delimiter = "%"


SCRIPT = Script(r"""#!/bin/bash
# %{summary}
# Written by `megatron-nlg launch`. Submit it with `sbatch`, again after it ended: training goes on where it was.
%{options}

megatron_nlg=(%{megatron_nlg})
config=(%{config})
train=(%{train} train "${config[@]}" --out %{run})
export job=%{run}/jobs/$SLURM_JOB_ID  # the folder of what this job leaves: its exit code, where its ranks sat
%{environment}%{setup}
# Variables of a torchrun that this was submitted from would pass for the ranks' own.
unset RANK WORLD_SIZE LOCAL_RANK
mkdir -p "$job" && rm -f "$job"/exit_code "$job"/said.* || exit 1

# ---- how it ends

finish() { # CODE WHY: the end of this job, for people and for the next job of a chain
    echo "megatron-nlg: job $SLURM_JOB_ID ends with code $1: $2"
    echo "$1" >"$job/exit_code.new" && mv "$job/exit_code.new" "$job/exit_code"
    exit "$1"
}

again() { # WHY: queue the job again. SLURM ends this script then: one that ended by itself would count as failed
    [ "${SLURM_RESTART_COUNT:-0}" -lt %{requeues} ] || finish "$code" "$1, and --max-requeues is %{requeues}"
    echo "megatron-nlg: job $SLURM_JOB_ID is queued again: $1"
    scontrol requeue "$SLURM_JOB_ID" && sleep 600
    finish "$code" "$1, and it can't be queued again"
}

verdict() { # what the end of a step means: other nodes or a later time may help, never against bad input or a bug
    # srun tells the highest code of all ranks, also of those that it ended itself: what ranks said counts more.
    for said in 3 4 5 2; do
        [ ! -e "$job/said.$said" ] || code=$said
    done
    case $code in
    0) finish 0 "done" ;;
    1 | 3 | 4 | 12[89] | 1[3-9]?) ;; # failed, saved, a node's fault, killed
    *) finish "$code" "a person must look at it" ;;
    esac
    [ "$code" -ne 4 ] || again "a node's fault"
    if [ "$code" -ne 1 ] && scontrol -o show job "$SLURM_JOB_ID" | grep -q ' PreemptTime=[0-9]'; then
        again "other jobs took its nodes"
    fi
    if [ "$code" -ne 1 ] && [ -n "$time_is_up" ]; then
        %{time_is_up}
    fi
    [ -z "$told" ] && [ "$code" -ne 3 ] || finish "$code" "it was told to stop"
    # A rank failed. If its node can't start a process any more, SLURM will notice, and queue the job again without it.
    unset SLURM_HOSTFILE
    if ! timeout 60 srun --overlap --nodes=%{all_nodes} --ntasks=%{all_nodes} --ntasks-per-node=1 true; then
        code=4
        echo "megatron-nlg: a node does not answer: waiting for SLURM to find that out"
        sleep "$(scontrol show config | sed -n 's/^SlurmdTimeout *= \([0-9]*\).*/\1/p')"
        again "a node does not answer"
    fi
    finish "$code" "a rank failed"
}

step() { # COMMAND: run it, and answer signals meanwhile, which bash does only while it waits
    "$@" &
    # A trapped signal ends `wait` early, with a code that is not the step's: wait until no signal came in between.
    signalled=1
    while [ -n "$signalled" ]; do
        signalled=
        wait $!
        code=$?
    done
}

# Ranks save and leave on SIGTERM. It goes to them past srun, which would kill them on a SIGTERM of its own.
# USR1 comes from SLURM, before the time limit or before other jobs take the nodes: then the job is queued again.
time_is_up= told=
trap 'signalled=1; time_is_up=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
trap 'signalled=1; told=1; scancel --signal=TERM "$SLURM_JOB_ID"' TERM INT

# SLURM queues a job again by itself when it has lost a node.
[ "${SLURM_RESTART_COUNT:-0}" -le %{requeues} ] || finish 4 "it was queued again more than %{requeues} times"
%{chain}
# ---- how it runs

meet_at() { # NODE of rank 0: by its name where that resolves, else by the address that SLURM reaches it at
    if getent hosts "$1" >/dev/null; then
        MASTER_ADDR=$1
    else
        MASTER_ADDR=$(scontrol -o show node "$1" | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)
    fi
    export MASTER_ADDR MASTER_PORT=$((15000 + SLURM_JOB_ID %% 15000))
}

# One rank that fails ends them all. It waits 5 s before that, unless it was killed: most ranks then end by themselves,
# with a code that says why.
# LOCAL_RANK is torchrun's name for the number in the node, and DeepSpeed knows no other.
rank='trap : TERM
    export LOCAL_RANK=${LOCAL_RANK:-$SLURM_LOCALID}
    "$@"
    code=$?
    case $code in [2-5]) : >"$job/said.$code" ;; esac
    [ "$code" -eq 0 ] || [ "$code" -gt 128 ] || sleep 5
    exit "$code"'
%{nodes}
# Ranks use their node's CPUs freely: SLURM would bind each to a single core.
%{step}
verdict
""")

CHAIN = r"""
# A job of a chain has nothing to do when the one before it, $1, was the last, or ended by what only a person can mend.
if [ -n "${1:-}" ]; then
    before=$(cat "${job%/*}/$1/exit_code" 2>/dev/null)
    case ${before:-3} in
    0) finish 0 "job $1 has finished the run" ;;
    3 | 4) ;;
    *) finish "$before" "job $1 ended with that code, and a person must look at it" ;;
    esac
fi
"""
FIRST_NODE = """
meet_at "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
"""
HOSTFILE = """
# From here on, line i of the hostfile is the node of rank i. Rank 0 need not be on the first node of SLURM's own list.
export SLURM_HOSTFILE=$job/hostfile
meet_at "$(head -n 1 "$SLURM_HOSTFILE")"
"""
PREFLIGHT = Script(r"""
# All nodes are tested; the job goes on with the good ones. Some may end badly: what counts is rank 0's verdict.
scontrol show hostnames "$SLURM_JOB_NODELIST" >"$job/nodes"
meet_at "$(head -n 1 "$job/nodes")"
rm -f "$job/preflight.json"
%{write_leaves}step %{srun} --wait=60 \
    %{command} preflight --run %{run} --spares %{spares} --nodes-file "$job/nodes" --out "$job/preflight.json"%{leaves}
good='import json, sys; print(*json.load(open(sys.argv[1]))["good"], sep="\n")'
mapfile -t nodes < <([ ! -e "$job/preflight.json" ] || "${megatron_nlg[0]}" -c "$good" "$job/preflight.json")
if [ -n "$time_is_up$told" ]; then
    code=3
    verdict
elif [ "${#nodes[@]}" -lt %{nodes} ]; then
    [ "$code" -eq 2 ] || code=4
    verdict
fi
""")
ALL_NODES = """
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
"""
PLACEMENT = Script(r"""
# Where ranks sit: decided now, for the nodes that this job got. Ranks check that it came about.
"${megatron_nlg[@]}" plan "${config[@]}" %{fabric} --ranks-per-node %{ranks_per_node} \
    --nodelist "$(IFS=,; echo "${nodes[*]}")" --spares $((${#nodes[@]} - %{nodes})) --placement \
    --hostfile "$job/hostfile" --ranks "$job/placement.json" --traffic "$job/traffic.json" ||
    finish $? "ranks can't be placed"
train+=(--placement "$job/placement.json")
""")
BLOCKWISE = Script(r"""
for node in "${nodes[@]:0:%{nodes}}"; do
    yes "$node" | head -n %{ranks_per_node}
done >"$job/hostfile"
""")
TORCHRUN = Script(r"""# torchrun must outlive the signal that makes ranks save: it would kill them after half a minute.
torchrun='trap "" TERM
    exec "$0" -m torch.distributed.run --nnodes=%{nodes} --nproc-per-node=%{ranks_per_node} \
        --node-rank="$SLURM_PROCID" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" \
        --signals-to-handle=SIGHUP,SIGQUIT --no-python "$@"'
""")


def batch_script(job: Job) -> str:
    """The sbatch file's text."""
    return SCRIPT.substitute(
        summary=job.summary,
        options="\n".join(f"#SBATCH {option}" for option in _options(job)),
        megatron_nlg=shlex.join([str(job.python), "-m", "megatron_nlg.cli"]),
        config=shlex.join([str(job.config), *job.overrides]),
        train=_megatron_nlg(job),
        run=shlex.quote(str(job.run)),
        environment="".join(f"# {why}\nexport {n}={shlex.quote(v)}\n" for n, v, why in job.environment),
        setup="".join(f"{line}\n" for line in job.setup),
        requeues=job.max_requeues,
        all_nodes=job.nodes + job.spares,
        # The next job of a chain goes on; there is no need for this one to come back.
        time_is_up='finish "$code" "its time was up; the next job goes on"'
        if job.chained
        else 'again "its time was up"',
        chain=CHAIN if job.chained else "",
        nodes=_nodes(job),
        step=_step(job),
    )


def _nodes(job: Job) -> str:
    """Which nodes the ranks go to, and where they meet."""
    if not (job.preflight or job.fabric):
        return FIRST_NODE
    text = ALL_NODES
    if job.preflight:
        nodes = job.nodes + job.spares
        text = PREFLIGHT.substitute(
            srun=_srun(job, nodes, nodes * job.ranks_per_node, kill=False),
            command=_megatron_nlg(job),
            run=shlex.quote(str(job.run)),
            spares=job.spares,
            nodes=job.nodes,
            **_leaves(job),
        )
    if job.fabric is None:
        return text + BLOCKWISE.substitute(nodes=job.nodes, ranks_per_node=job.ranks_per_node) + HOSTFILE
    fabric = ["--cluster", str(job.fabric.cluster)]
    if job.fabric.topology:
        fabric += ["--topology", job.fabric.topology]
    placement = PLACEMENT.substitute(fabric=shlex.join(fabric), nodes=job.nodes, ranks_per_node=job.ranks_per_node)
    return text + placement + HOSTFILE


def _leaves(job: Job) -> dict[str, str]:
    """How preflight learns which nodes share a leaf switch: bandwidth is compared within leaves, and across them."""
    if job.fabric is None or not job.fabric.topology:
        return {"write_leaves": "", "leaves": ""}
    topology = f'"${{megatron_nlg[@]}}" topology {shlex.quote(job.fabric.topology)} --as leaves'
    return {
        "write_leaves": f'{topology} >"$job/leaves.json" || finish $? "switches can\'t be read"\n',
        "leaves": ' \\\n        --leaves "$job/leaves.json"',
    }


def _megatron_nlg(job: Job) -> str:
    """The command where ranks run."""
    return "megatron-nlg" if job.container else '"${megatron_nlg[@]}"'


def _step(job: Job) -> str:
    """The step that trains."""
    rank = 'bash -c "$rank" rank "${train[@]}"'
    if job.launcher == "torchrun":
        python = "python" if job.container else '"${megatron_nlg[0]}"'
        torchrun = TORCHRUN.substitute(nodes=job.nodes, ranks_per_node=job.ranks_per_node)
        srun = _srun(job, job.nodes, job.nodes, "--ntasks-per-node=1")
        return f'{torchrun}step {srun} \\\n    bash -c "$torchrun" {python} {rank}'
    placed = ["--distribution=arbitrary"] if job.fabric or job.preflight else []
    return f"step {_srun(job, job.nodes, job.ranks, *placed)} \\\n    {rank}"


def _srun(job: Job, nodes: int, ranks: int, *more: str, kill: bool = True) -> str:
    """srun's part of a command, and that of what makes the container."""
    words = [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={ranks}",
        f"--kill-on-bad-exit={int(kill)}",
        "--cpu-bind=none",
        *more,
    ]
    if job.container is None:
        return shlex.join(words)
    if job.container.runtime == "pyxis":
        mounts = ",".join(f"{path}:{path}" for path in job.container.mounts)
        words += [f"--container-image={job.container.image}", f"--container-mounts={mounts}"]
        return shlex.join([*words, f"--container-workdir={job.directory}"])
    gpus = ["--nv"] if job.gpu_option else []
    binds = ",".join(map(str, job.container.mounts))
    words += ["apptainer", "exec", *gpus, "--bind", binds, "--pwd", str(job.directory), job.container.image]
    return shlex.join(words)


def _options(job: Job) -> list[str]:
    given: Iterable[tuple[str, object]] = (
        ("partition", job.partition),
        ("account", job.account),
        ("time", job.time),
        ("switches", job.switches),
        ("segment", job.segment),
    )
    return [
        f"--job-name={quoted(job.run.name)}",
        f"--nodes={job.nodes + job.spares}",
        f"--ntasks-per-node={job.ranks_per_node}",
        "--exclusive",
        "--mem=0",  # all of a node's
        *([job.gpu_option] if job.gpu_option else []),
        *(f"--{name}={quoted(str(value))}" for name, value in given if value),
        f"--chdir={quoted(str(job.directory))}",
        # %j is the job's number; a percent sign of the folder's own is doubled.
        f"--output={quoted(str(job.run / 'logs').replace('%', '%%') + '/slurm-%j.out')}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{job.save_seconds}",
    ]


def quoted(value: str) -> str:
    """An option's value as sbatch reads it from its file: in double quotes when it has blanks."""
    if any(character in value for character in '\n\r"'):
        raise InputError(
            f"{value!r}: line breaks and double quotes can't be written into an sbatch file; use another name"
        )
    return f'"{value}"' if any(character.isspace() or character == "#" for character in value) else value
