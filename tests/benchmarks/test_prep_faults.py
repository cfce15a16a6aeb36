"""A few of the kills of benchmarks/prep_faults.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import prep_faults
from megatron_nlg.cli import main

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "runs" / "prep_example.yaml"


@pytest.mark.slow
def test_kills_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(prep_faults, "KILLS_A_RUN", 4)
    assert main(["prep", "example", str(tmp_path / "raw")]) == 0
    stages = prep_faults.undisturbed(RECIPE, tmp_path / "raw", tmp_path / "whole")
    assert {"read", "extract", "dedup", "tokenize"} <= set(stages)
    kills = prep_faults.trial(RECIPE, tmp_path / "raw", tmp_path / "out", stages, seed=3)
    assert kills.total() > 0
    whole = prep_faults.content(tmp_path / "whole")
    assert len(whole) > 20
    assert prep_faults.content(tmp_path / "out") == whole


def test_a_run_that_fails_by_itself_is_no_kill(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "raise SystemExit('no such recipe')"]
    with pytest.raises(RuntimeError, match="no such recipe"):
        prep_faults.killed(words, tmp_path, None, 60.0, everyone=False)
