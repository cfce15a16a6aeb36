from __future__ import annotations

import itertools
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.job import Container, Fabric, Job
from launch.slurm import batch_script
from launch.submit import submit, write_script
from megatron_nlg.config.errors import InputError, MegatronNlgError
from tests.launch.minislurm import MiniSlurm, wait_until

JOB = Job(
    config=Path("/data/run.yaml"),
    overrides=("model.num_layers=4",),
    run=Path("/data/runs/first"),
    nodes=2,
    ranks_per_node=8,
    summary="run: 1 million parameters",
    python=Path("/env/bin/python"),
    directory=Path("/data"),
)


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


def test_the_script_asks_for_what_it_was_told() -> None:
    script = batch_script(
        replace(JOB, partition="batch", account="nlp", time="4:00:00", gpu_option="--gpus-per-node=8", save_seconds=90)
    )
    assert script.startswith("#!/bin/bash\n# run: 1 million parameters\n")
    assert options(script) == [
        "--job-name=first",
        "--nodes=2",
        "--ntasks-per-node=8",
        "--exclusive",
        "--mem=0",
        "--gpus-per-node=8",
        "--partition=batch",
        "--account=nlp",
        "--time=4:00:00",
        "--chdir=/data",
        "--output=/data/runs/first/logs/slurm-%j.out",
        "--open-mode=append",
        "--requeue",
        "--signal=B:USR1@90",
    ]
    for line in (
        "megatron_nlg=(/env/bin/python -m megatron_nlg.cli)",
        "config=(/data/run.yaml model.num_layers=4)",
        'train=("${megatron_nlg[@]}" train "${config[@]}" --out /data/runs/first)',
    ):
        assert f"\n{line}\n" in script


def test_what_is_not_given_is_not_asked_for() -> None:
    names = {option.partition("=")[0] for option in options(batch_script(JOB))}
    assert names.isdisjoint({"--partition", "--account", "--time", "--gpus-per-node"})


def test_nodes_near_each_other_and_spare_ones_are_asked_for() -> None:
    asked = options(batch_script(replace(JOB, spares=2, preflight=True, switches="2@12:00", segment=4)))
    assert {"--nodes=4", "--ntasks-per-node=8", "--switches=2@12:00", "--segment=4"} <= set(asked)


def test_a_variable_comes_with_its_reason_and_setup_may_overrule_it() -> None:
    script = batch_script(replace(JOB, environment=(("NCCL_X", "a b", "adapters are slow"),), setup=("unset NCCL_X",)))
    assert "\n# adapters are slow\nexport NCCL_X='a b'\nunset NCCL_X\n" in script


def test_containers() -> None:
    image = Container("img.sqsh", "pyxis", (Path("/a"), Path("/b")))
    script = batch_script(replace(JOB, container=image, gpu_option="--gpus-per-node=8"))
    options = "--container-image=img.sqsh --container-mounts=/a:/a,/b:/b --container-workdir=/data"
    assert f"step srun --nodes=2 --ntasks=16 --kill-on-bad-exit=1 --cpu-bind=none {options} \\\n    bash -c" in script
    assert '\ntrain=(megatron-nlg train "${config[@]}" --out /data/runs/first)\n' in script
    script = batch_script(replace(JOB, container=replace(image, runtime="apptainer"), gpu_option="--gpus-per-node=8"))
    assert "apptainer exec --nv --bind /a,/b --pwd /data img.sqsh \\\n    bash -c" in script


def test_the_clusters_setup_comes_before_the_ranks() -> None:
    script = batch_script(replace(JOB, setup=("module load cuda", "export NCCL_DEBUG=WARN")))
    assert script.index("module load cuda\nexport NCCL_DEBUG=WARN\n") < script.index("srun ")


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_overrides_reach_the_ranks_as_they_are(overrides: list[str]) -> None:
    script = batch_script(replace(JOB, overrides=tuple(overrides)))
    config = script[script.index("config=(") + len("config=(") : script.index(")\ntrain=(")]
    assert shlex.split(config)[1:] == overrides


@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, setup=("module load x",), overrides=("a='b c'", "d=$HOME;`ls`")),
        replace(JOB, spares=1, preflight=True, chained=True),
        replace(JOB, fabric=Fabric(Path("/a b/cluster.yaml"), "scontrol"), switches="1@5:00", segment=4),
        replace(JOB, launcher="torchrun"),
        replace(JOB, container=Container("/my images/x.sif", "apptainer", (Path("/my data"),)), preflight=True),
        replace(JOB, container=Container("nvcr.io#x", "pyxis", (Path("/data"),)), launcher="torchrun"),
        replace(JOB, environment=(("NCCL_DEBUG", "a b", "it's useful"),)),
    ],
)
def test_every_kind_of_script_is_bash(job: Job) -> None:
    subprocess.run(["bash", "-n"], input=batch_script(job), text=True, check=True)


def test_blanks_and_percent_signs_of_paths() -> None:
    script = batch_script(replace(JOB, run=Path("/my data/50%"), directory=Path("/my data")))
    assert '--output="/my data/50%%/logs/slurm-%j.out"' in options(script)
    assert '--chdir="/my data"' in options(script)
    with pytest.raises(InputError, match="line breaks and double quotes"):
        batch_script(replace(JOB, run=Path("/a\nb")))
    with pytest.raises(InputError, match="line breaks and double quotes"):
        batch_script(replace(JOB, partition='x"'))


# ---- on a real SLURM ---------------------------------------------------------------------------------------------

# Each takes the place of python: it gets the arguments `-m megatron_nlg.cli train CONFIG key=value … --out RUN`.
REPORT = """
where="$SLURM_PROCID/$SLURM_NTASKS local $SLURM_LOCALID $LOCAL_RANK at $MASTER_ADDR:$MASTER_PORT"
echo "$where${RANK:+ RANK} args $*"
"""
SAVE_WHEN_TOLD = """
trap 'sleep 0.5; echo "rank $SLURM_PROCID saved"; exit 3' TERM
echo "rank $SLURM_PROCID ready"
for i in $(seq 600); do sleep 0.1; done
"""
NODE1_IS_BAD = r"""
case $3 in
topology) [ "$4 $5 $6" = "scontrol --as leaves" ] && echo leaves ;;
preflight) # --run RUN --spares K --nodes-file FILE --out FILE --leaves FILE
    [ "$(cat "${13}")" = leaves ] || exit 2
    [ "$SLURMD_NODENAME" != node1 ] || exit 1
    [ "$SLURM_LOCALID" != 0 ] || echo "{\"good\": [$(grep -vx node1 "$9" | sed 's/.*/"&"/' | paste -sd,)]}" >"${11}" ;;
plan) # ranks go around the nodes, in falling order
    while [ $# -gt 0 ]; do
        case $1 in --nodelist) nodes=$2 ;; --spares) spares=$2 ;; --hostfile) hostfile=$2 ;; --ranks) ranks=$2 ;; esac
        shift
    done
    for rank in 0 1; do echo "$nodes" | tr , '\n' | sort -r | head -n -"$spares"; done >"$hostfile"
    echo planned >"$ranks" ;;
train) echo "rank $SLURM_PROCID local $SLURM_LOCALID on $SLURMD_NODENAME, $(cat "${@: -1}")" ;;
*) exec python3 "$@" ;;
esac
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """A job of 2 nodes × 2 ranks whose ranks run a shell script."""

    def make(body: str, name: str = "run", **changes: object) -> Job:
        program = tmp_path / f"{name}.program"
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
        base = replace(JOB, run=tmp_path / name, directory=tmp_path, python=program, ranks_per_node=2)
        return replace(base, **changes)  # type: ignore[arg-type]

    return make


def written(job: Job) -> Path:
    return write_script(job.run, "job.sbatch", batch_script(job))


def output(job: Job, number: int) -> list[str]:
    """What the job wrote, without srun's remark that the test's SLURM can't bind to CPUs and so needs no --cpu-bind."""
    path = job.run / "logs" / f"slurm-{number}.out"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if not line.startswith("srun: cluster configuration lacks")]


def exit_code(job: Job, number: int) -> str:
    """What the job left for the next one of a chain."""
    return (job.run / "jobs" / str(number) / "exit_code").read_text()


def wait_for_ranks(job: Job, number: int) -> None:
    wait_until(lambda: sum("ready" in line for line in output(job, number)) == 4, 60, "all ranks to be ready")


@pytest.mark.slurm
class TestOnSlurm:
    def test_every_rank_knows_its_number_and_where_to_meet(
        self, slurm: MiniSlurm, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = job(REPORT, overrides=("log.wandb_project=a b",), setup=("export MARK=1",))
        monkeypatch.setitem(slurm.env, "RANK", "7")  # as from a torchrun that the job is submitted from
        number = slurm.submit(str(written(made)))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0")
        arguments = f"-m megatron_nlg.cli train /data/run.yaml log.wandb_project=a b --out {made.run}"
        assert sorted(output(made, number)) == [
            *(
                f"{rank}/4 local {rank % 2} {rank % 2} at 127.0.0.1:{15000 + number} args {arguments}"
                for rank in range(4)
            ),
            f"megatron-nlg: job {number} ends with code 0: done",
        ]
        assert exit_code(made, number) == "0\n"

    def test_a_rank_sees_its_nodes_gpus(self, slurm: MiniSlurm, job: Callable[..., Job]) -> None:
        made = job('echo "$CUDA_VISIBLE_DEVICES"', gpu_option="--gpus-per-node=2")
        number = slurm.submit(str(written(made)))
        assert slurm.wait(number)["JobState"] == "COMPLETED"
        assert output(made, number)[:-1] == ["0,1"] * 4

    def test_a_bad_node_is_left_out_and_the_placement_of_the_good_ones_obeyed(
        self, slurm: MiniSlurm, job: Callable[..., Job]
    ) -> None:
        fabric = Fabric(Path("/cluster.yaml"), "scontrol")
        made = job(NODE1_IS_BAD, spares=2, preflight=True, fabric=fabric)
        number = slurm.submit(str(written(made)))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["NumNodes"]) == ("COMPLETED", "4"), output(made, number)
        assert sorted(line for line in output(made, number) if line.startswith("rank ")) == [
            "rank 0 local 0 on node4, planned",
            "rank 1 local 0 on node3, planned",
            "rank 2 local 1 on node4, planned",
            "rank 3 local 1 on node3, planned",
        ]

    def test_torchrun_starts_the_ranks_of_each_node(self, slurm: MiniSlurm, job: Callable[..., Job]) -> None:
        # This python plays torchrun: it starts two ranks, which get their numbers from it.
        torchrun = """
        case $2 in
        torch.distributed.run) echo "${*:3:5}"; shift 9; for i in 0 1; do LOCAL_RANK=$i "$@" & done; wait -n; wait -n ;;
        *) echo "local $LOCAL_RANK $*"; exit 5 ;;
        esac
        """
        made = job(torchrun, launcher="torchrun")
        number = slurm.submit(str(written(made)))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "5:0", "0")
        said = output(made, number)
        for node in range(2):
            where = f"--master-addr=127.0.0.1 --master-port={15000 + number}"
            assert f"--nnodes=2 --nproc-per-node=2 --node-rank={node} {where}" in said
        train = f"-m megatron_nlg.cli train /data/run.yaml model.num_layers=4 --out {made.run}"
        assert sorted(line for line in said if train in line) == [f"local {i} {train}" for i in (0, 0, 1, 1)]

    def test_bad_input_is_never_queued_again_whatever_code_srun_has(
        self, slurm: MiniSlurm, job: Callable[..., Job]
    ) -> None:
        made = job("[ $SLURM_PROCID -lt 2 ] || { trap '' TERM; sleep 600 & wait; wait; }; exit 2")  # two must be killed
        number = slurm.submit(str(written(made)))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")

    def test_one_rank_that_fails_ends_the_job(self, slurm: MiniSlurm, job: Callable[..., Job]) -> None:
        made = job('[ "$SLURM_PROCID" = 3 ] && kill -9 $$; sleep 600')
        number = slurm.submit(str(written(made)))
        ended = slurm.wait(number, timeout=60)
        assert (ended["JobState"], ended["Restarts"]) == ("FAILED", "0")
        assert ended["ExitCode"] in {"137:0", "143:0"}  # its own KILL, or the others' TERM
        said = output(made, number)
        assert any(line.endswith("task 3: Exited with exit code 137") for line in said)
        assert said[-1].endswith(": a rank failed")

    @pytest.mark.slow
    def test_a_nodes_fault_queues_the_job_again_but_not_without_end(
        self, slurm: MiniSlurm, job: Callable[..., Job]
    ) -> None:
        made = job('echo "start $SLURM_RESTART_COUNT"; [ $SLURM_PROCID != 1 ] || sleep 600; exit 4', max_requeues=1)
        number = slurm.submit(str(written(made)))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "4:0", "1")
        said = output(made, number)
        assert f"megatron-nlg: job {number} is queued again: a node's fault" in said
        assert said[-1] == f"megatron-nlg: job {number} ends with code 4: a node's fault, and --max-requeues is 1"
        assert said.count("start 1") == 4

    def test_a_user_who_ends_the_job_gets_it_saved_and_not_restarted(
        self, slurm: MiniSlurm, job: Callable[..., Job]
    ) -> None:
        made = job(SAVE_WHEN_TOLD)
        number = slurm.submit(str(written(made)))
        wait_for_ranks(made, number)
        slurm.run("scancel", "--batch", "--signal=TERM", str(number))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "3:0", "0")
        assert sum("saved" in line for line in output(made, number)) == 4

    def test_a_chain_ends_at_once_after_a_users_fault(
        self, slurm: MiniSlurm, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
        made = job('echo "train"; exit 5', chained=True)
        numbers = [int(number) for number in submit(written(made), 3)]
        assert [slurm.wait(number)["ExitCode"] for number in numbers] == ["5:0"] * 3
        assert output(made, numbers[0]).count("train") == 4
        for before, number in itertools.pairwise(numbers):
            why = f"job {before} ended with that code, and a person must look at it"
            assert output(made, number) == [f"megatron-nlg: job {number} ends with code 5: {why}"]

    def test_submit_says_what_sbatch_says(
        self, slurm: MiniSlurm, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
        (number,) = submit(written(job("true")))
        assert slurm.wait(int(number))["JobState"] == "COMPLETED"
        with pytest.raises(MegatronNlgError, match=r"sbatch .* failed: .*invalid partition"):
            submit(written(job("true", partition="absent")))
