"""`megatron-nlg hans`: bad input before a rank starts; killed, gone on with, and refused for another job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_nlg import cli
from tests import dying
from tests.job import command
from tests.megatron_nlg.evaluation.hans.fixture import write_hans

SMALL = ("--limit", "24", "--held-out", "6", "--controls", "6", "--shots", "0,2", "--orders", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hans(tmp_path_factory.mktemp("data") / "heuristics_evaluation_set.txt", 8)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main(["hans", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("megatron-nlg hans: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "1,x"], "--shots 1,x: must be numbers with commas"),
        (["--shots", "-1,2"], "--shots -1: must be 0 or more"),
        (["--limit", "0"], "--limit 0: must be 1 or more"),
        (["--orders", "0"], "--orders 0: must be 1 or more"),
        (["--checkpoints", "7"], "there is no checkpoint of step 7; there are: 1, 2"),
        (["--checkpoints", "last"], "is neither `all` nor steps"),
        (["--limit", "90"], "has 96 examples, and 422 are needed"),
        (["--held-out", "9", "--shots", "5"], "--shots 5: a prompt has"),
    ],
)
def test_options_that_are_refused(
    ascii_run: Path, data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    # argparse takes -1,2 for an option unless it stands after =
    joined = [f"{a}={b}" for a, b in zip(arguments[::2], arguments[1::2], strict=True)]
    assert message in refused(capsys, ascii_run, "--data", data, *joined)


def test_no_run_and_no_file(tmp_path: Path, ascii_run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no config.yaml" in refused(capsys, tmp_path, "--data", data, *SMALL)
    assert "none.txt: No such file" in refused(capsys, ascii_run, "--data", tmp_path / "none.txt", *SMALL)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.slow
def test_killed_and_gone_on_with(
    ascii_run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No row is made twice; then growth over both checkpoints on two ranks; another seed is refused."""
    line = ("hans", ascii_run, "--data", data, *SMALL, "--out", tmp_path)
    rows, partial = tmp_path / "step_00000002" / "rows.jsonl", tmp_path / "step_00000002" / ".rows.jsonl.partial"
    dying.at_row(5, *line)
    before = rows_of(partial)[1:]
    assert not rows.exists() and len(before) == 4
    with command(*line) as job:
        code, out, err = job.wait()
        assert job.alive() == []
    assert (code, out) == (0, f"{tmp_path}/report.html\n"), err
    made = {row["key"]: row for row in rows_of(rows)[1:]}
    assert len(made) == 36 * 4 + 3 + 3 * 3 * 4 and all(made[row["key"]] == row for row in before)
    done = rows.read_bytes()
    with command(*line, "--checkpoints", "all", "parallel.tensor=2") as job:
        code, out, err = job.wait()
    assert code == 0 and rows.read_bytes() == done, err
    study = json.loads((tmp_path / "figures.json").read_text())
    assert [point["step"] for point in study["checkpoints"]] == [1, 2]
    assert [c["name"] for c in study["checkpoints"][0]["conditions"]] == [
        "0 shots", "2 shots", "2 shots, shuffled labels", "2 shots, order 2"
    ]  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert page.count('<svg class="chart"') == 8 and "Over the run" in page
    with command(*line, "--seed", "1") as job:
        code, out, err = job.wait()
    assert code == 2 and "rows of another job: " in err and "settings.seed was 0 and is 1" in err
    assert rows.read_bytes() == done
