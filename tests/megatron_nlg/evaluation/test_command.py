"""`megatron-nlg evaluate` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_nlg.cli import main
from tests import dying
from tests.job import command
from tests.megatron_nlg.evaluation.sets import write_run, write_sets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With run/ and data/."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_run(folder, positions=64)
    write_sets(folder / "data", rows=24)
    return folder


def results(out: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((out / "results.json").read_text())["results"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_evaluate_killed_and_again(folder: Path) -> None:
    wanted = ["evaluate", folder / "run", "--tasks", "lambada,hellaswag", "--shots", "0,few", "--data", folder / "data"]
    layout = ["parallel.tensor=2", "--nproc", "2", "--batch-tokens", "200"]
    answers = folder / "killed" / "answers.jsonl"
    dying.at_row(31, *wanted, *layout, "--out", folder / "killed")
    before = answers.read_bytes()
    with answers.open("ab") as torn:
        torn.write(before[:25])
    with command(*wanted, *layout, "--out", folder / "killed", "--fast-requests") as job:
        code, out, err = job.wait()
    assert code == 0, err
    assert "76.6 %" in out and "few (15)" in out and "documents" in out
    assert "hellaswag, 20 shots: 96 prompts are longer than the model's 64 tokens and were cut" in err
    after = answers.read_bytes()
    keys = [json.loads(line)["key"] for line in after.splitlines()]
    assert after.startswith(before) and before.count(b"\n") == 31 and len(keys) == len(set(keys)) == 2 * 24 + 2 * 96
    assert (folder / "killed" / "results.png").stat().st_size > 10_000
    found = results(folder / "killed")
    assert [(row["task"], row["shots"], row["few"]) for row in found] == [
        ("lambada", 0, False), ("lambada", 15, True), ("hellaswag", 0, False), ("hellaswag", 20, True)
    ]  # fmt: skip
    assert all(row["metrics"]["documents"] == 24 for row in found)  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--tasks lambda", "--tasks lambda: is not a task that reads --data; those are anli_r2, boolq"),
        ("--tasks ,", "names no task"),
        ("--tasks boolq --shots x", "--shots x: 'x' is neither a number nor `few`"),
        ("--tasks boolq --limit 0", "--limit 0: must be 1 or more"),
        ("--tasks boolq --data nowhere", "--data nowhere: is not a folder"),
        # WiC has five examples, and GPT-3's number is 32.
        (
            "--tasks wic --shots few",
            "--shots: 32 examples for wic, and there are 5; ask for fewer, or add a train file",
        ),
        ("--tasks sst2", "--tasks sst2: is not a task that reads --data"),
    ],
)
def test_bad_input(folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, said: str) -> None:
    data = [] if "--data" in arguments else ["--data", str(folder / "data")]
    assert main(["evaluate", str(folder / "run"), *arguments.split(), *data]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_file_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder / "run"), "--tasks", "piqa", "--data", str(tmp_path)]) == 2
    assert f"has no file of piqa; put the published one at {tmp_path}/piqa/valid.jsonl" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--tasks", "piqa", "--data", str(tmp_path)]) == 2
    assert "has no config.yaml; name the folder of a run" in capsys.readouterr().err
