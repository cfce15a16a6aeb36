"""`megatron-nlg analyze`: the table of studies."""

from __future__ import annotations

import importlib

import pytest

from megatron_nlg.analysis.command import STUDIES
from megatron_nlg.cli import main


def test_every_study_is_there_and_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    for name, study in STUDIES.items():
        assert callable(importlib.import_module(study.module).run)
        with pytest.raises(SystemExit) as left:
            main(["analyze", name])
        assert left.value.code == 2
    with pytest.raises(SystemExit) as left:
        main(["analyze", "--help"])
    assert left.value.code == 0
    said = capsys.readouterr()
    assert "RUN" in said.err
    assert all(name in said.out for name in STUDIES)
