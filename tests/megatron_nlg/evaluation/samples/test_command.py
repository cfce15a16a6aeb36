"""`megatron-nlg samples`: the command, gone on with in another layout, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from tests.job import command
from tests.megatron_nlg.evaluation.samples.test_prompts import OWN, write
from tests.megatron_nlg.serving.model import write_model
from tests.tiny import tiny


@pytest.mark.slow
def test_a_book_gone_on_with(tmp_path: Path) -> None:
    """Rows that are there are not made again, a torn one is; in another layout the bytes are the same."""
    run = write_model(tmp_path)[1]
    ask = ("samples", run, "--prompts", write(tmp_path, OWN), "--out", tmp_path / "book", "--checkpoints", "0")
    with command(*ask) as job:
        code, out, err = job.wait()
    rows = tmp_path / "book" / "run" / "step_00000000" / "samples.jsonl"
    page = tmp_path / "book" / "samples.html"
    assert (code, out) == (0, f"{page}\n") and err == f"{rows}: 2 prompts continued\n"
    before, html = rows.read_bytes(), page.read_text()
    found = [json.loads(line) for line in before.splitlines()]
    assert [(row["kind"], row["setting"], row["settings"]["top_k"]) for row in found] == [
        ("Dogs", "greedy", 0),
        ("Dogs", "drawn", 5),
    ]
    assert "run, step 0" in html and "The dog" in html
    first = before[: before.index(b"\n") + 1]
    rows.unlink()
    (rows.parent / f".{rows.name}.partial").write_bytes(first + b'{"index": 1, "pro')
    page.unlink()
    with command(*ask, "parallel.tensor=2") as job:
        code, _, err = job.wait()
    assert code == 0 and err == f"{rows}: 2 prompts continued, 1 of them before\n"
    assert rows.read_bytes() == before and page.read_text() == html


def test_a_step_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny()))
    (tmp_path / "checkpoints" / "step_00000004").mkdir(parents=True)
    assert cli.main(["samples", str(tmp_path), "--checkpoints", "7"]) == 2
    assert "--checkpoints 7: there is no checkpoint of step 7; there are: 4" in capsys.readouterr().err


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a" / "run").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    for folder in (tmp_path / "a" / "run", tmp_path / "run"):
        (folder / "config.yaml").touch()
    for arguments, message in (
        ([tmp_path / "none"], "none: has no config.yaml; name the folder of a run"),
        ([tmp_path, "--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        ([tmp_path, "--seed", "-1"], "--seed -1: must be from 0"),
        ([tmp_path, "--prompts", tmp_path / "none.yaml"], "none.yaml: no such file"),
        ([tmp_path / "run", "--also", tmp_path / "a" / "run"], "two runs are named run; rename a folder"),
    ):
        assert cli.main(["samples", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
