"""Several runs on one page."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_nlg.cli import main
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.report.comparison import comparison, unique_names
from megatron_nlg.report.record import read_record
from tests.megatron_nlg.report.example import OVERRIDES, write_run
from tests.tiny import tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "base"), write_run(folder / "<b>high", "optimizer.lr=5e-3", "model.num_layers=8")


def test_curves_results_and_the_settings_that_differ(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    page = out.read_text()
    assert page.count('<svg class="chart"') == 3
    assert page.count("<path") > 20
    for text in ("Training loss", "Validation loss", "optimizer.lr", "0.005", "model.num_layers", "tokens"):
        assert text in page
    assert "model.hidden_size" not in page  # the same in both
    assert "<b>high" not in page and "&lt;b&gt;high" in page
    assert list(tmp_path.iterdir()) == [out]


def test_runs_that_have_not_begun(tmp_path: Path, runs: tuple[Path, Path]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(to_yaml(tiny(*OVERRIDES)))
    page = comparison([read_record(tmp_path / "one"), read_record(tmp_path / "two")])
    assert "No step has been logged yet" in page
    assert "The configs are the same" in page
    assert "finished" in comparison([read_record(tmp_path / "one"), read_record(runs[0])])


def test_validation_stands_at_the_tokens_of_its_step(runs: tuple[Path, Path]) -> None:
    from megatron_nlg.report.comparison import _by_tokens

    record = read_record(runs[0])
    tokens, losses = _by_tokens(record.valid["docs"], "loss", record)
    steps = {row["step"]: row["tokens"] for row in record.steps}
    assert tokens == [steps[row["step"]] for row in record.valid["docs"]]
    assert losses == [row["loss"] for row in record.valid["docs"]]


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "other"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(to_yaml(tiny(*OVERRIDES)))
    records = [read_record(folder) for folder in folders]
    assert unique_names(records) == ["a/run", "b/run", "b/other"]
    assert unique_names(records[1:]) == ["run", "other"]


def test_bad_input(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs[0]), str(runs[0])]) == 2
    assert "given twice; name each run once" in capsys.readouterr().err
    assert main(["report", str(runs[0]), str(tmp_path)]) == 2
    assert "no config.yaml" in capsys.readouterr().err
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "none" / "page.html")]) == 2
    assert "choose another file with --out" in capsys.readouterr().err
