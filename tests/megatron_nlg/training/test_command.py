"""`megatron-nlg train` as a user types it: what bad input gets, and that a job which was ended goes on.

Each start of ranks takes seconds, so most of what is refused before one is tried in this process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from data_prep.files import read_json, write_json
from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.training.checkpoint.format import problems_of, steps_in
from megatron_nlg.training.command import seconds_of
from tests.job import Job, can_fork, command, until
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny

STEPS = 60
GONE = 10
"""Seconds within which all ranks must have gone."""
BY_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS")


@pytest.fixture(autouse=True)
def no_ranks_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BY_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


def write_config(path: Path, blend: Path) -> Path:
    overrides = [
        f"data.blend={blend}",
        "data.split=[0.8, 0.2]",
        f"schedule.train_tokens={16 * 32 * STEPS}",
        "checkpoint.interval=5",
        "evaluation.batches=1",
    ]
    path.write_text(to_yaml(tiny(*overrides)))
    return path


@pytest.fixture(scope="module")
def config(corpus: Path) -> Path:
    return write_config(corpus.parent.parent / "run.yaml", corpus)


# ---- refused before a rank starts ----------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The message of a command that ends as bad input."""
    assert cli.main(["train", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("megatron-nlg train: ") and "Traceback" not in err
    return err.removeprefix("megatron-nlg train: ")


def nothing_in(out: Path) -> bool:
    """No file is visible, half-written or whole; folders may be."""
    return not [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.hiden_size=64"], ["model.hiden_size", "did you mean model.hidden_size"]),
        (["model.hidden_size=sixty"], ["model.hidden_size", "sixty"]),
        (
            ["model.hidden_size=66", "parallel.interleave=2"],
            ["2 problems", "4 heads do not divide hidden_size 66", "2 chunks without a pipeline"],
        ),
        (["parallel.zero_stage=2", "parallel.pipeline=2"], ["parallel.zero_stage", "set zero_stage to 1"]),
        (["--nproc", "1", "parallel.tensor=2"], ["multiple of 2 ranks, and there are 1", "start 2 ranks"]),
        (["--nproc", "3", "parallel.tensor=2"], ["multiple of 2 ranks, and there are 3", "start 2 ranks"]),
        (["--nproc", "3"], ["batch.global: 16 is not a multiple of", "nearest: 12 or 18"]),
        (["--nproc", "0"], ["--nproc 0: start at least one rank"]),
        (["data.blend=null"], ["data.blend: is required to train"]),
        (["data.blend=none/blend.yaml"], ["none/blend.yaml: no such file"]),
        (["model.vocab_size=251"], ["model.vocab_size: 251", "has 250 entries; set model.vocab_size=250"]),
        (["--master-port", "65536"], ["--master-port 65536", "choose a free one"]),
        (["--max-restarts", "-1"], ["--max-restarts -1: a number from 0"]),
        (["--time-limit", "4x"], ["--time-limit 4x: a time is expected", "90m"]),
        (["--time-limit", "0h"], ["--time-limit 0h: a time is expected"]),
        (["watchdog.timeout_seconds=8"], ["heartbeat.interval_seconds to 2"]),
    ],
)
def test_bad_settings(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: list[str]
) -> None:
    message = refused(capsys, config, "--out", tmp_path / "run", *arguments)
    for part in said:
        assert part in message
    assert nothing_in(tmp_path)


def test_times() -> None:
    assert [seconds_of(text) for text in ("90", "90s", "1.5m", "4h", "2d")] == [90, 90, 90, 14400, 172800]


def test_missing_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.yaml: no such file" in refused(capsys, tmp_path / "none.yaml", "--out", tmp_path / "run")


def test_port_in_use(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused(capsys, config, "--out", tmp_path / "run", "--master-port", str(port))
    assert message == f"--master-port {port}: Address already in use; choose a free one, or leave --master-port out\n"
    assert not (tmp_path / "run").exists()


def truncate(folder: Path) -> None:
    path = folder / "tokens" / "docs.bin"
    path.write_bytes(path.read_bytes()[:-2])


def change_meta(folder: Path) -> None:
    path = folder / "tokenizer" / "meta.json"
    write_json(path, {**read_json(path, ""), "identity": "sha256:0"})


def change_source(folder: Path) -> None:
    write_json(folder / "tokens" / "docs.json", {"tokenizer_identity": "sha256:other"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "tokens" / "docs.bin").unlink(), "docs.bin: No such file"),
        (lambda folder: (folder / "tokens" / "code.idx").unlink(), "code.idx: No such file"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer/meta.json: no such file"),
        (truncate, "docs.bin: truncated: docs.idx asks for"),
        (change_meta, "tokenizer.identity: 'sha256:"),
        (change_source, "was made by tokenizer 'sha256:other', not by the blend's 'sha256:"),
    ],
)
def test_damaged_corpus(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus.parent, folder)
    damage(folder)
    message = refused(capsys, write_config(tmp_path / "run.yaml", folder / "blend.yaml"), "--out", tmp_path / "run")
    assert said in message and "prepare the corpus again" in message
    assert nothing_in(tmp_path / "run")


@pytest.mark.parametrize(
    ("out", "said"),
    [("file", "Not a directory"), ("file/run", "Not a directory"), ("/proc/run", "No such file"), ("/sys/run", "")],
)
def test_a_folder_that_can_not_be_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, said: str
) -> None:
    (tmp_path / "file").write_text("mine")
    message = refused(capsys, config, "--out", tmp_path / out)
    assert f"--out {tmp_path / out}: can't be written: {said}" in message
    assert message.endswith("; choose another folder\n")
    assert (tmp_path / "file").read_text() == "mine"


def test_too_few_ranks_in_the_environment(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MASTER_ADDR": "localhost", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    message = refused(capsys, config, "--out", tmp_path / "run", "parallel.tensor=4")
    assert "needs a multiple of 4 ranks, and there are 2" in message
    assert not (tmp_path / "run").exists()


# ---- jobs ----------------------------------------------------------------------------------------------------------


def rows(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [row for row in map(json.loads, lines) if "split" not in row]


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def curve(run: Path) -> list[tuple[int, float, float]]:
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows(run)]


def hidden(run: Path) -> list[str]:
    """Temporary names that were left behind."""
    return [path.name for path in run.rglob(".*") if path.name != ".metadata"]  # torch.distributed.checkpoint's


def trained_to(job: Job, run: Path, step: int) -> None:
    """Wait for a step of a running job, with a checkpoint before it."""

    def there() -> bool:
        assert job.process.poll() is None, job.process.communicate()
        return bool(rows(run) and rows(run)[-1]["step"] >= step and steps_in(run / "checkpoints"))

    until(there, f"step {step}")


def one_line(err: str) -> str:
    """The error message after the lines of progress; nothing else may be an error."""
    lines = [line for line in err.splitlines() if line.startswith(("megatron-nlg train: ", "rank "))]
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


def failed(*arguments: str | Path, code: int, **options: Any) -> str:
    """The one message of a job that fails, with no process left."""
    with command("train", *arguments, **options) as job:
        got, _, err = job.wait()
        until(lambda: not job.alive(), "processes left", GONE)
    assert got == code, err
    return one_line(err)


@contextmanager
def environment_ranks(config: Path, run: Path, variables: list[dict[str, str]], *overrides: str) -> Iterator[list[Job]]:
    """Ranks without a supervisor, as torchrun and srun start them."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    arguments = ["train", str(config), "--out", str(run), *overrides]
    jobs = [Job("megatron_nlg.cli", arguments, {**where, **rank}, can_fork()) for rank in variables]
    try:
        yield jobs
    finally:
        for job in jobs:
            job.kill()


def torchrun(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}


def srun(rank: int) -> dict[str, str]:
    return {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank)}


@pytest.fixture(scope="module")
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on two ranks that srun's variables make."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with environment_ranks(config, run, [srun(0), srun(1)]) as jobs:
        said = [job.wait() for job in jobs]
        assert [code for code, _, _ in said] == [0, 0], said
    assert "training ends after step 60 of 60: done" in said[0][2] and said[1][1:] == ("", "")
    return run


@pytest.mark.slow
def test_a_job_that_is_ended_in_any_way_goes_on(config: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("train", config, "--nproc", "2", "--out", run)

    with command(*arguments) as job:
        trained_to(job, run, 6)
        os.kill(job.ranks()[0], signal.SIGKILL)
        killed = time.monotonic()
        code, _, err = job.wait(GONE)
        assert job.alive() == [] and time.monotonic() - killed < GONE
    assert code == 1 and "died without a word" in one_line(err) and "the same command goes on" in one_line(err)

    with command(*arguments) as job:
        trained_to(job, run, 15)
        job.process.terminate()
        code, _, err = job.wait(GONE)
        assert code == 3 and job.alive() == [], err
    stopped_at = rows(run)[-1]["step"]
    assert max(steps_in(run / "checkpoints")) == stopped_at >= 15

    with environment_ranks(config, run, [torchrun(0), torchrun(1)]) as jobs:
        assert [job.wait()[0] for job in jobs] == [0, 0]
        assert not any(job.alive() for job in jobs)
    assert [event["event"] for event in events(run) if event["event"] in ("start", "resume", "signal")] == [
        "start",
        "resume",
        "signal",
        "resume",
    ]
    assert curve(run) == curve(undisturbed)  # every digit
    assert hidden(run) == []
    for step in steps_in(run / "checkpoints"):
        assert problems_of(run / "checkpoints" / f"step_{step:08d}") == []


@pytest.mark.slow
def test_a_checkpoint_of_another_model(config: Path, undisturbed: Path) -> None:
    before = sorted(path.name for path in (undisturbed / "checkpoints").iterdir())
    arguments = (config, "--nproc", "2", "--out", undisturbed, "model.hidden_size=32")
    message = failed(*arguments, code=2)
    assert "model.hidden_size is 32 and was 64" in message and "choose a new folder with --out" in message
    assert sorted(path.name for path in (undisturbed / "checkpoints").iterdir()) == before


@pytest.mark.slow
def test_a_port_in_use_in_the_environment(config: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        where = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, **srun(0)}
        message = failed(config, "--out", tmp_path / "run", code=2, env=where)
    assert message == (
        f"rank 0: MASTER_PORT: localhost:{port} is in use by another process; set MASTER_PORT to a free port"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; a checkpoint of the tiny model takes 3."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_too_small_for_a_checkpoint(config: Path, small_disk: Path) -> None:
    run = small_disk / "run"
    message = failed(config, "--nproc", "2", "--out", run, code=1)
    assert "the checkpoint of step 5 can't be written" in message and "the disk is full" in message
    assert "start the same command again" in message
    assert list((run / "checkpoints").iterdir()) == []
    assert hidden(run) == []


@pytest.mark.slow
def test_a_full_disk(config: Path, small_disk: Path) -> None:
    (small_disk / "others").write_bytes(bytes(1 << 21))
    message = failed(config, "--nproc", "1", "--out", small_disk / "run", code=1)
    assert "No space left on device" in message and "free some space" in message
    assert hidden(small_disk / "run") == []
