"""`megatron-nlg bias`: all studies on a tiny model on two ranks, what is left out, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_nlg import cli
from tests.job import command
from tests.megatron_nlg.evaluation.bias.fixture import write_all


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("data"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main(["bias", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--studies", "occupations,luck"], "--studies luck: is unknown; choose of occupations, winogender"),
        (["--samples", "0"], "--samples 0: must be 1 or more"),
        (["--top-p", "0"], "--top-p 0.0: must be above 0"),
        (["--data", "nowhere"], "--data nowhere: is not a folder"),
        (["--studies", "stereoset"], "--studies stereoset: nothing of it can be done"),
        (["--checkpoint", "9"], "there is no checkpoint of step 9; there are: 1, 2"),
    ],
)
def test_options_that_are_refused(
    ascii_run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, ascii_run, *arguments)


def test_a_broken_file_is_named(ascii_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "crows_pairs.csv").write_text("sent_more,sent_less\n")
    message = refused(capsys, ascii_run, "--data", tmp_path, "--studies", "crows_pairs")
    assert "crows_pairs.csv, line 1: has no column 'stereo_antistereo'" in message


@pytest.mark.slow
def test_all_studies_and_again(ascii_run: Path, data: Path, tmp_path: Path) -> None:
    line = ("bias", ascii_run, "--data", data, "--samples", "1", "--max-tokens", "6", "--out", tmp_path)
    with command(*line, "parallel.tensor=2") as job:
        code, out, err = job.wait()
        assert job.alive() == []
    assert (code, out, err) == (0, f"{tmp_path}/report.html\n", "")
    folder = tmp_path / "step_00000002"
    names = ["crows_pairs", "occupations", "stereoset", "winogender", "words"]
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.jsonl" for name in names]
    study = json.loads((tmp_path / "figures.json").read_text())
    assert set(study["studies"]) == {*names, "sentiment"} and study["left_out"] == {}
    assert study["studies"]["occupations"]["occupations"] == 3 and study["studies"]["winogender"]["sentences"] == 12
    page = (tmp_path / "report.html").read_text()
    assert page.count('<svg class="chart"') == 9 and page.index("What this can and can't show") < page.index("<svg")
    assert 'src="' not in page and "<link" not in page and "<script" not in page
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with command(*line) as job:  # nothing to do: in another layout too
        assert job.wait()[0] == 0
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
