"""The command, with a measuring process that is quick."""

from pathlib import Path

import pytest

from launch import calibrate
from megatron_nlg.cli import main
from megatron_nlg.config.cluster import load_cluster
from tests.megatron_nlg.planning.test_calibration import measurements


def test_writes_a_description_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "measure", measurements)
    out = tmp_path / "machine.yaml"
    assert main(["plan", "--calibrate", "--out", str(out)]) == 0
    assert load_cluster(out).compute
    assert main(["plan", "--calibrate", "--out", str(tmp_path / "nowhere" / "machine.yaml")]) == 2


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 2
    assert "CONFIG" in capsys.readouterr().err
    assert main(["plan", "configs/runs/demo.yaml"]) == 2
    assert "--cluster FILE" in capsys.readouterr().err
    assert main(["plan", "configs/runs/demo.yaml", "--cluster", "configs/clusters/selene.yaml", "--out", "x"]) == 2
    assert "--calibrate" in capsys.readouterr().err


def test_a_measuring_process_that_fails_is_heard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate.sys, "executable", "false")
    assert main(["plan", "--calibrate"]) == 1
