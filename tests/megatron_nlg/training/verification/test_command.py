"""`megatron-nlg verify` as a user calls it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel import supervisor
from megatron_nlg.training.verification.command import _report, _supervised, choose
from tests.job import command
from tests.tiny import tiny


def verify(config: Path, *words: str) -> tuple[int, str, str]:
    with command("verify", config, *words, env={"OMP_NUM_THREADS": "1"}) as job:
        return job.wait()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(tiny("model.dropout=0.1")), encoding="utf-8")
    return path


@pytest.mark.slow
def test_layouts_in_processes_of_their_own(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, err = verify(
        config, "--nproc", "2", "--layouts", "3", "--steps", "3", "--out", str(out), "batch.micro=4"
    )
    assert code == 0, err
    assert "3 of 3 layouts are equal to TP1 PP1 CP1 DP1 ZeRO-1 over 3 steps in fp32" in said
    found = json.loads((out / "verify.json").read_text())
    assert found["config"]["model"]["dropout"] == 0 and found["config"]["batch"]["micro"] == 4
    assert len(found["layouts"]) == 4 and found["failed"] == {}
    assert (out / "verify.png").stat().st_size > 10_000
    assert not (out / "reference").exists()
    again = verify(config, "--nproc", "1", "--layouts", "1", "--steps", "2", "--out", str(out))[1]
    assert "1 of 1 layouts are equal" in again  # and not compared with what three steps gave
    listed = verify(config, "--nproc", "2", "--layouts", "3", "--list", "batch.micro=4")[1].split("\n")
    assert listed[:-1] == list(found["layouts"])


def test_a_folder_that_can_not_be_written_is_named(config: Path) -> None:
    code, _, err = verify(config, "--out", "/proc/none")
    assert code == 2
    assert "--out /proc/none: can't be written" in err


def test_the_reference_is_the_plainest_layout() -> None:
    assert choose(tiny(), 4, "1", exactly=False)[0].name == "TP1 PP1 CP1 DP1 ZeRO-1"
    exact = choose(tiny(), 4, "all", exactly=True)
    assert exact[0].name == "TP1 PP1 CP1 DP4 ZeRO-1"
    assert {candidate.ranks for candidate in exact} == {4}


@pytest.mark.parametrize(
    ("layouts", "overrides", "says"),
    [
        ("some", (), "--layouts some: a number of layouts, or all"),
        ("2", ("batch={micro: 16, global: 16}", "model={num_layers: 1, num_query_groups: 1}"), "allow no layout on 3"),
    ],
)
def test_bad_input_is_named(layouts: str, overrides: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        choose(tiny(*overrides), 3, layouts, exactly=True)


def test_a_signal_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [candidate] = choose(tiny(), 1, "1", exactly=False)[:1]
    monkeypatch.setattr(supervisor, "supervise", lambda *_: supervisor.STOPPED)
    with pytest.raises(SystemExit) as left:
        _supervised(tiny(), candidate, tmp_path, 0, 1)
    assert left.value.code == supervisor.STOPPED


def test_a_difference_and_a_failure_are_said_and_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = choose(tiny(), 2, "3", exactly=False)
    good = {"losses": [2.0, 1.9], "grad_norms": [1.0, 1.0], "weights": {}, "worst": {}}
    wrong = {"losses": [2.0, 1.91], "grad_norms": [1.0, 1.0], "weights": {"norms": 0.5}, "worst": {"norms": "x"}}
    curves = {chosen[0].name: good, chosen[1].name: wrong, chosen[2].name: {**good, "weights": {"norms": 1e-6}}}
    args = argparse.Namespace(config=Path("tiny.yaml"), steps=2, out=tmp_path)
    code = _report(tiny(), chosen, curves, {chosen[3].name: "rank 1 died"}, tmp_path, args)
    text = capsys.readouterr().out
    assert code == 1
    assert "NOT EQUAL: loss, norms" in text and f"{chosen[3].name}: rank 1 died" in text
    assert "1 of 3 layouts are equal" in text
    record = json.loads((tmp_path / "verify.json").read_text())
    assert record["layouts"][chosen[1].name]["beyond"] == ["loss", "norms"]
    assert record["failed"] == {chosen[3].name: "rank 1 died"}
