"""`megatron-nlg generate`: bad input before a rank starts, and one whole run of the command."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.config.validate import load_config
from megatron_nlg.data.tokenizer import run_tokenizer
from megatron_nlg.generation.rows import append_row
from tests import dying
from tests.job import command
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.training.test_trainer import go
from tests.tiny import tiny
from tests.world import World


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints, the newer one damaged."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny(
        f"data.blend={write_corpus(folder / 'corpus')}",
        "data.split=[0.8, 0.2]",
        "evaluation.batches=0",
        "checkpoint.interval=2",
        f"schedule.train_tokens={16 * 32 * 4}",
        "parallel.tensor=2",
    )
    assert world.run(2, go, config, folder / "run") == ["done"] * 2
    next((folder / "run" / "checkpoints" / "step_00000004").glob("*.distcp")).write_bytes(b"")
    return folder / "run"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main(["generate", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("megatron-nlg generate: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("option", "value", "range_"),
    [
        ("--top-p", "0", "above 0 and at most 1"),
        ("--top-p", "1.5", "above 0 and at most 1"),
        ("--top-p", "nan", "above 0 and at most 1"),
        ("--temperature", "-1", "0 or more"),
        ("--temperature", "nan", "0 or more"),
        ("--temperature", "inf", "0 or more"),
        ("--max-tokens", "0", "1 or more"),
        ("--seed", "-1", "from 0 to"),
    ],
)
def test_bad_options(capsys: pytest.CaptureFixture[str], option: str, value: str, range_: str) -> None:
    message = refused(capsys, "none", "--prompt", "x", f"{option}={value}")
    assert f"{option} {value}" in message.replace("-1.0", "-1").replace("0.0", "0") and range_ in message


def test_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path}: has no config.yaml; name the folder of a run" in refused(capsys, tmp_path, "--prompt", "x")


def test_the_corpus_has_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny(f"data.blend={tmp_path}/none/blend.yaml")))
    assert "none/blend.yaml: no such file" in refused(capsys, tmp_path, "--prompt", "x")


def test_an_impossible_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny()))
    assert cli.main(["generate", str(tmp_path), "--prompt", "x", "parallel.tensor=3"]) == 2
    assert "parallel.tensor 3" in capsys.readouterr().err


def test_a_row_is_added_whole(tmp_path: Path) -> None:
    for text in ("one\ntwo", "drei – é"):
        append_row(tmp_path / "samples.jsonl", {"text": text})
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == [{"text": "one\ntwo"}, {"text": "drei – é"}]


def characters(config: RunConfig, ids: list[int]) -> str:
    return run_tokenizer(config, Path()).decode(ids)


@pytest.mark.slow
def test_the_command(run: Path) -> None:
    """Two prompts on the two stages of a pipeline; the damaged checkpoint is said and the older one used."""
    prompt = characters(load_config(run / "config.yaml"), [3, 1, 4])
    arguments = ("--prompt", prompt, "--prompt", "", "--greedy", "--max-tokens", "5", "--save")
    with command("generate", run, *arguments, "parallel.pipeline=2") as job:
        code, out, err = job.wait()
        assert job.alive() == []
    assert code == 0, err
    assert err.startswith("damaged checkpoint ") and "step_00000004" in err and err.count("\n") == 1
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == [prompt, ""]
    assert out == "".join(f"{row['prompt']}{row['text']}\n" for row in rows)
    for row in rows:
        assert row["step"] == 2 and 1 <= len(row["text"]) <= 5
        assert row["settings"] == {"temperature": 0.0, "top_p": 0.9, "max_tokens": 5, "seed": 0}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.slow
def test_a_file_killed_and_gone_on_with(run: Path, tmp_path: Path) -> None:
    """The same bytes as undisturbed, no prompt continued twice, and nothing to do the third time."""
    prompts = [characters(load_config(run / "config.yaml"), [i % 97, 3 * i % 97]) for i in range(40)]
    (tmp_path / "in.txt").write_text("".join(f"{prompt}\n" for prompt in prompts), encoding="utf-8")
    file = ("generate", run, "--file", tmp_path / "in.txt", "--max-tokens", "25", "--batch-size", "2", "--top-k", "9")
    out, partial = tmp_path / "out.jsonl", tmp_path / ".out.jsonl.partial"
    dying.at_row(3, *file, "--out", out)
    assert not out.exists()
    before = rows_of(partial)
    assert len(before) == 3
    with partial.open("ab") as torn:
        torn.write(b'{"index": 5')
    with command(*file, "--out", out) as job:
        code, said, err = job.wait()
    assert (code, said) == (0, "")
    assert err.endswith(f"{out}: 40 prompts continued, {len(before)} of them before\n") and not partial.exists()
    rows = rows_of(out)
    assert [(row["index"], row["prompt"], row["settings"]["seed"]) for row in rows] == [
        (i, prompt, i) for i, prompt in enumerate(prompts)
    ]
    assert all(row in rows for row in before)
    with command(*file, "--out", tmp_path / "undisturbed.jsonl") as job:
        assert job.wait()[0] == 0
    assert out.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()


@pytest.mark.slow
def test_interactive(run: Path) -> None:
    """Two prompts through a pipe, the second without an end of line; then Ctrl-C while it waits for one more."""
    prompt = characters(load_config(run / "config.yaml"), [3, 1, 4])
    line = ("generate", run, "--interactive", "--greedy", "--max-tokens", "5")
    with command(*line, "parallel.tensor=2", stdin=True) as job:
        assert job.process.stdin
        job.process.stdin.write(f"{prompt}\n{prompt}")
        code, out, err = job.wait()
    assert code == 0, err
    first, second, third = out.split("> ")[1:]
    assert first == second and first.endswith("\n") and 1 <= len(first) <= 6 and third == "\n"
    with command(*line, stdin=True) as job:
        process = job.process
        assert process.stdin and process.stdout
        process.stdin.write(f"{prompt}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"> {first}"
        process.send_signal(signal.SIGINT)
        code, out, err = job.wait()
    assert code == 0 and out in ("\n", "> \n") and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "x", "--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["--prompt", "x", "--out", "o.jsonl"], "--file and --out belong together"),
        (["--file", "p.txt"], "--file and --out belong together"),
        (["--interactive", "--save"], "--save: keeps what --prompt gives"),
        (["--prompt", "x", "--logprobs", "1"], "--logprobs: are written by --file"),
        (["--file", "none.txt", "--out", "none/o.jsonl"], "--out none/o.jsonl: none is not a folder"),
        (["--file", "none.txt", "--out", "o.jsonl"], "--file none.txt: No such file"),
    ],
)
def test_options_that_do_not_go_together(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, run, *arguments)


@pytest.mark.slow
def test_a_run_without_a_checkpoint(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "config.yaml", tmp_path)
    with command("generate", tmp_path, "--prompt", "") as job:
        assert job.wait() == (
            2,
            "",
            f"megatron-nlg generate: {tmp_path}/checkpoints: holds no checkpoint; train first, or name the run's "
            "folder\n",
        )
        assert job.alive() == []
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
