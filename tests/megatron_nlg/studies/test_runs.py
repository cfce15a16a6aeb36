from __future__ import annotations

import signal
from pathlib import Path

import pytest

from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError
from megatron_nlg.studies.runs import (
    OUTCOME,
    Outcome,
    Run,
    _ending,
    check_folder,
    read_outcome,
    resolved,
    write_outcome,
)
from tests.tiny import tiny


def test_an_outcome_comes_back(tmp_path: Path) -> None:
    assert read_outcome(tmp_path) is None
    for outcome in (Outcome(0, None, 1.5), Outcome(5, "training diverges"), Outcome(-9, "killed")):
        write_outcome(tmp_path, outcome)
        assert read_outcome(tmp_path) == outcome
        assert outcome.settled is (outcome.code in (0, 5))
    for damaged in ("", "{}", "[1]"):
        (tmp_path / OUTCOME).write_text(damaged)
        with pytest.raises(InputError, match="delete it to run this run again"):
            read_outcome(tmp_path)


def test_a_run_whose_process_was_killed_has_failed_and_one_that_was_stopped_has_not(tmp_path: Path) -> None:
    run = Run("a", tmp_path, tmp_path / "run.yaml", ())
    assert _ending(run, 3).code == 3 and read_outcome(tmp_path) is None
    assert "killed by signal 9" in str(_ending(run, -signal.SIGKILL).error)
    assert read_outcome(tmp_path) == Outcome(-9, _ending(run, 0).error)


def test_a_folder_with_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(to_yaml(tiny("data.blend=blend.yaml")))
    run = Run("a", tmp_path / "a", config, ("optimizer.lr=2e-3",))
    check_folder(run)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text(to_yaml(resolved(config, ("optimizer.lr=2e-3", "data.index_cache=x"))))
    check_folder(run)  # where indices lie is no matter
    with pytest.raises(InputError, match=r"optimizer.lr 0.002 and not 0.003"):
        check_folder(Run("a", tmp_path / "a", config, ("optimizer.lr=3e-3",)))
