"""A ladder of two rungs as a user types it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_nlg.cli import main
from megatron_nlg.config.dump import to_yaml
from tests.job import command
from tests.megatron_nlg.data.corpus import write_corpus
from tests.tiny import tiny


@pytest.fixture
def config(tmp_path: Path) -> Path:
    blend = write_corpus(tmp_path / "corpus")
    settings = tiny(f"data.blend={blend}", "data.split=[0.8, 0.2]", "model.num_layers=2", "batch.global=2")
    (tmp_path / "run.yaml").write_text(to_yaml(settings))
    return tmp_path / "run.yaml"


def test_two_rungs_train_the_same_model_and_are_measured_once(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    words = ["bench", "ladder", config, "--out", out, "--rungs", "fp32,flash,fused", "--steps", "6", "--warmup", "2"]
    with command(*words) as job:
        code, said, errors = job.wait()
    assert code == 0, errors
    assert "compiled and fused kernels: left out: not compiled: no GPU" in said
    result = json.loads((out / "ladder.json").read_text())
    first, second, third = result["rungs"]
    assert (first["steps"], first["kernels"]["attention"], second["kernels"]["attention"]) == (4, "naive", "torch SDPA")
    assert second["largest_loss_difference"] < 1e-5 and len(first["losses"]) == 6
    assert second["over_the_first"] == pytest.approx(second["tokens_per_second"] / first["tokens_per_second"], rel=0.01)
    assert "left_out" in third and not list(out.glob("round_1/*/checkpoints"))
    assert (out / "ladder.png").read_bytes().startswith(b"\x89PNG")
    assert 'aria-label="ladder"' in (out / "report.html").read_text()
    before = (out / "round_1" / "fp32" / "metrics.jsonl").stat().st_mtime_ns
    with command(*words) as job:
        code, again, errors = job.wait()
    assert (code, again) == (0, said) and "2 of 2 runs have ended before" in errors
    assert (out / "round_1" / "fp32" / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rungs", "warp"], "--rungs warp: there is none of that name"),
        (["--rungs", "tf32"], "none can be done here"),
        (["--steps", "5"], "--steps 5: none is timed"),
        (["--rounds", "0"], "--rounds 0: at least 1"),
        (["precision=bf16"], "override precision=bf16: the ladder itself sets this"),
        (["model.hidden_size=63"], "heads do not divide"),
        (["data.blend=nowhere.yaml"], "nowhere.yaml: no such file"),
        (["data.blend=null", "--data", "nowhere"], "--data nowhere: has no text/tinyshakespeare.txt"),
    ],
)
def test_bad_input(words: list[str], said: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ladder", str(config), "--out", str(config.parent / "out"), *words]) == 2
    assert said in capsys.readouterr().err
