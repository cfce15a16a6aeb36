from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.slurm import Job, batch_script, submit, write_script
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
    train = "/env/bin/python -m megatron_nlg.cli train /data/run.yaml --out /data/runs/first model.num_layers=4 &"
    assert train in script


def test_what_is_not_given_is_not_asked_for() -> None:
    names = {option.partition("=")[0] for option in options(batch_script(JOB))}
    assert names.isdisjoint({"--partition", "--account", "--time", "--gpus-per-node"})


def test_the_clusters_setup_comes_before_the_ranks() -> None:
    script = batch_script(replace(JOB, setup=("module load cuda", "export NCCL_DEBUG=WARN")))
    assert script.index("module load cuda\nexport NCCL_DEBUG=WARN\n") < script.index("srun ")


@pytest.mark.parametrize("job", [JOB, replace(JOB, setup=("module load x",), overrides=("a='b c'", "d=$HOME;`ls`"))])
def test_bash_finds_nothing_wrong(job: Job) -> None:
    subprocess.run(["bash", "-n"], input=batch_script(job), text=True, check=True)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_overrides_reach_the_ranks_as_they_are(overrides: list[str]) -> None:
    script = batch_script(replace(JOB, overrides=tuple(overrides)))
    command = script[script.index("    /env/bin/python") : script.index(" &\nstep=$!")]
    assert shlex.split(command)[7:] == overrides


def test_blanks_and_percent_signs_of_paths() -> None:
    script = batch_script(replace(JOB, run=Path("/my data/50%"), directory=Path("/my data")))
    assert '--output="/my data/50%%/logs/slurm-%j.out"' in options(script)
    assert '--chdir="/my data"' in options(script)
    with pytest.raises(InputError, match="line breaks and double quotes"):
        batch_script(replace(JOB, run=Path("/a\nb")))
    with pytest.raises(InputError, match="line breaks and double quotes"):
        batch_script(replace(JOB, partition='x"'))


def test_write_replaces_the_script_and_leaves_nothing_else(tmp_path: Path) -> None:
    job = replace(JOB, run=tmp_path / "runs" / "first")
    path = write_script(job)
    assert path == tmp_path / "runs" / "first" / "job.sbatch"
    again = replace(job, nodes=3)
    assert write_script(again) == path
    assert path.read_text() == batch_script(again)
    assert os.access(path, os.X_OK)
    assert sorted(p.name for p in job.run.iterdir()) == ["job.sbatch", "logs"]


def test_a_folder_that_can_not_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"job\.sbatch can't be written there: Not a directory"):
        write_script(replace(JOB, run=tmp_path / "file"))


def test_a_failed_write_leaves_the_old_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(JOB, run=tmp_path)
    path = write_script(job)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_script(replace(job, nodes=3))
    assert path.read_text() == batch_script(job)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.sbatch", "logs"]


def test_submit_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not installed here"):
        submit(tmp_path / "job.sbatch")


# ---- on a real SLURM ---------------------------------------------------------------------------------------------

# Each takes the place of python: it gets the arguments `-m megatron_nlg.cli train CONFIG --out RUN key=value …`.
REPORT = """
where="$SLURM_PROCID/$SLURM_NTASKS local $SLURM_LOCALID $LOCAL_RANK at $MASTER_ADDR:$MASTER_PORT"
echo "$where${RANK:+ RANK} args $*"
"""
SAVE_WHEN_TOLD = """
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then echo "rank $SLURM_PROCID goes on"; exit 0; fi
trap 'sleep 0.5; echo "rank $SLURM_PROCID saved"; exit 3' TERM
echo "rank $SLURM_PROCID ready"
for i in $(seq 600); do sleep 0.1; done
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """A job of 2 nodes × 2 ranks whose ranks run a shell script."""

    def make(body: str, **changes: object) -> Job:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
        base = replace(JOB, run=tmp_path / "run", directory=tmp_path, python=program, ranks_per_node=2)
        return replace(base, **changes)  # type: ignore[arg-type]

    return make


def output(job: Job, number: int) -> list[str]:
    """What the job wrote, without srun's remark that the test's SLURM can't bind to CPUs and so needs no --cpu-bind."""
    path = job.run / "logs" / f"slurm-{number}.out"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if not line.startswith("srun: cluster configuration lacks")]


def wait_for_ranks(job: Job, number: int) -> None:
    wait_until(lambda: sum("ready" in line for line in output(job, number)) == 4, 60, "all ranks to be ready")


@pytest.mark.slurm
class TestOnSlurm:
    def test_every_rank_knows_its_number_and_where_to_meet(
        self, slurm: MiniSlurm, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = job(REPORT, overrides=("log.wandb_project=a b",), setup=("export MARK=1",))
        monkeypatch.setitem(slurm.env, "RANK", "7")  # as from a torchrun that the job is submitted from
        number = slurm.submit(str(write_script(made)))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0")
        arguments = f"-m megatron_nlg.cli train /data/run.yaml --out {made.run} log.wandb_project=a b"
        assert sorted(output(made, number)) == [
            f"{rank}/4 local {rank % 2} {rank % 2} at 127.0.0.1:{15000 + number} args {arguments}" for rank in range(4)
        ]

    def test_a_rank_sees_its_nodes_gpus(self, slurm: MiniSlurm, job: Callable[..., Job]) -> None:
        made = job('echo "$CUDA_VISIBLE_DEVICES"', gpu_option="--gpus-per-node=2")
        number = slurm.submit(str(write_script(made)))
        assert slurm.wait(number)["JobState"] == "COMPLETED"
        assert output(made, number) == ["0,1"] * 4

    def test_the_exit_code_is_the_ranks_though_they_end_apart(self, slurm: MiniSlurm, job: Callable[..., Job]) -> None:
        number = slurm.submit(str(write_script(job("sleep $((4 - SLURM_PROCID)); exit 2"))))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")

    def test_one_rank_that_fails_ends_the_job(self, slurm: MiniSlurm, job: Callable[..., Job]) -> None:
        made = job('[ "$SLURM_PROCID" = 3 ] && kill -9 $$; sleep 600')
        number = slurm.submit(str(write_script(made)))
        ended = slurm.wait(number, timeout=60)
        assert (ended["JobState"], ended["Restarts"]) == ("FAILED", "0")
        assert ended["ExitCode"] in {"137:0", "143:0"}  # its own KILL, or the others' TERM
        assert "srun: error: node2: task 3: Exited with exit code 137" in output(made, number)

    def test_before_the_time_limit_ranks_save_and_the_job_goes_on_later(
        self, slurm: MiniSlurm, job: Callable[..., Job]
    ) -> None:
        made = job(SAVE_WHEN_TOLD)
        number = slurm.submit(str(write_script(made)))
        wait_for_ranks(made, number)
        slurm.run("scancel", "--batch", "--signal=USR1", str(number))  # what --signal=B:USR1@180 makes SLURM do
        wait_until(lambda: slurm.job(number)["Restarts"] == "1", 60, "the job to be queued again")
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0")
        said = output(made, number)  # appended to by the second start
        assert sorted(line for line in said if "saved" in line) == [f"rank {rank} saved" for rank in range(4)]
        assert sorted(line for line in said if "goes on" in line) == [f"rank {rank} goes on" for rank in range(4)]

    def test_a_user_who_ends_the_job_gets_it_saved_and_not_restarted(
        self, slurm: MiniSlurm, job: Callable[..., Job]
    ) -> None:
        made = job(SAVE_WHEN_TOLD)
        number = slurm.submit(str(write_script(made)))
        wait_for_ranks(made, number)
        slurm.run("scancel", "--batch", "--signal=TERM", str(number))
        ended = slurm.wait(number)
        assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "3:0", "0")
        assert sum("saved" in line for line in output(made, number)) == 4

    @pytest.mark.slow
    def test_a_pre_empted_job_saves_and_goes_on_later(self, slurm: MiniSlurm, job: Callable[..., Job]) -> None:
        made = job(SAVE_WHEN_TOLD, nodes=4, ranks_per_node=1)
        number = slurm.submit(str(write_script(made)))
        wait_for_ranks(made, number)
        urgent = slurm.submit("--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
        assert slurm.wait(urgent)["JobState"] == "COMPLETED"
        wait_until(lambda: slurm.job(number)["Restarts"] == "1", 60, "the job to be queued again")
        assert slurm.wait(number)["JobState"] == "COMPLETED"
        said = output(made, number)
        assert sum("saved" in line for line in said) == 4
        assert sum("goes on" in line for line in said) == 4

    def test_submit_says_what_sbatch_says(
        self, slurm: MiniSlurm, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
        number = submit(write_script(job("true")))
        assert slurm.wait(int(number))["JobState"] == "COMPLETED"
        with pytest.raises(MegatronNlgError, match=r"sbatch .* failed: .*invalid partition"):
            submit(write_script(job("true", partition="absent")))
