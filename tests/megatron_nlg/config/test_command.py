from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.summary import abbreviate
from megatron_nlg.config.validate import load_config
from tests.tiny import tiny

ROOT = Path(__file__).parents[3]
MT_NLG = str(ROOT / "configs" / "runs" / "mt_nlg_530b.yaml")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(tiny()))
    return str(path)


def check(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert cli.main(["check", *argv]) == 0
    return capsys.readouterr().out


def check_json(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(check(capsys, *argv, "--json"))
    return report


def test_mt_nlg_530b(capsys: pytest.CaptureFixture[str]) -> None:
    text = check(capsys, MT_NLG)
    assert "529,600,819,200 parameters (529.6 B)" in text
    assert "tensor 8 × pipeline 35 × data 1 = 280 ranks" in text
    assert "padded to 51200" in text
    assert "ramp in 60 levels: 32 64 96" in text


def test_mt_nlg_530b_on_420_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    report = check_json(capsys, MT_NLG, "--nodes", "420", "--gpus-per-node", "8")
    assert report["layout"]["data"] == 12
    assert report["batch"]["levels"][:3] == [36, 72, 96]
    assert report["batch"]["levels"][-1] == 1920
    assert len(report["stages"]) == 35
    first, second, last = report["stages"][0], report["stages"][1], report["stages"][-1]
    assert (first["layers"], last["layers"]) == ([[0, 1, 2]], [[102, 103, 104]])
    assert first["ranks"] == list(range(96))
    # Word embedding (cut over 8) and positions on the first stage; the tied copy and the final norm on the last.
    assert first["parameters_per_rank"] - second["parameters_per_rank"] == 51200 * 20480 // 8 + 2048 * 20480
    assert last["parameters_per_rank"] - second["parameters_per_rank"] == 51200 * 20480 // 8 + 2 * 20480
    assert second["memory_per_rank"]["weights"] == 2 * second["parameters_per_rank"]
    assert second["memory_per_rank"]["optimizer"] == second["parameters_per_rank"]  # 12 bytes over 12 replicas
    # One layer's input, of each of the 34 micro-batches in flight, for three layers.
    kept = 34 * 3 * 2 * 2048 * 20480
    assert kept < second["memory_per_rank"]["activations"] < 1.2 * kept


def test_the_output_is_a_run_config_again(config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "resolved.yaml"
    path.write_text(check(capsys, config, "optimizer.lr=5e-4", "--ranks", "2"), encoding="utf-8")
    assert load_config(path) == tiny("optimizer.lr=5e-4")


def test_one_replica_is_the_default(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_json(capsys, config, "parallel.tensor=2", "parallel.pipeline=2")
    assert (report["layout"]["ranks"], report["layout"]["data"]) == (4, 1)
    assert report["layout"]["tensor_groups"] == [[0, 1], [2, 3]]
    assert report["layout"]["pipeline_groups"] == [[0, 2], [1, 3]]
    assert report["resolved"]["padded_vocab_size"] == 256
    assert report["training"] == {"samples": 320, "tokens": 10240, "steps": 20}


def test_interleaved_chunks_and_rounding(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = check(
        capsys,
        config,
        "parallel.pipeline=2",
        "parallel.interleave=2",
        "batch.ramp={start: 4, increment: 4, tokens: 2560, rounding: up}",
        "--ranks",
        "4",
    )
    assert "tensor 1 × pipeline 2 × 2 chunks × data 2 = 4 ranks" in text
    assert "tensor groups    none" in text
    assert "ramp in 4 levels: 8 8 16 16" in text
    assert "2 levels rounded up to multiples of 8" in text
    assert [line.split()[2:6] for line in text.splitlines() if line.startswith("#       1")] == [
        ["2-3", "1,", "3", "116.5"]
    ]


def test_many_stages_are_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    lines = check(capsys, MT_NLG, "--ranks", "3360").splitlines()
    assert max(map(len, lines)) < 130
    assert len([line for line in lines if line.startswith("#")]) < 40
    assert "#   tensor groups    420 of 8: 0-7 | 8-15 | … | 3352-3359" in lines


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nodes", "2"], "--nodes needs --gpus-per-node too"),
        (["--gpus-per-node", "2"], "--gpus-per-node needs --nodes too"),
        (["--ranks", "0"], "--ranks 0: at least 1 is expected"),
        (["--ranks", "3", "--nodes", "2", "--gpus-per-node", "2"], "--ranks 3 is not --nodes 2 × --gpus-per-node 2"),
        (["--ranks", "3"], "batch.global: 16 is not a multiple"),
        (["model.num_layer=3"], "model.num_layer: unknown key; did you mean model.num_layers?"),
        (["nonsense"], "override 'nonsense': expected key=value"),
    ],
)
def test_bad_input_exits_2(config: str, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert cli.main(["check", config, *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_all_problems_come_at_once(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ["model.num_attention_heads=5", "parallel.zero_stage=7", "log.intrval=2", "--ranks", "3"]
    assert cli.main(["check", config, *bad]) == 2
    error = capsys.readouterr().err
    assert f"{config}: 4 problems" in error
    assert len(error.splitlines()) == 5


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "absent.yaml"]) == 2
    assert capsys.readouterr().err == "megatron-nlg check: absent.yaml: no such file\n"


def test_check_needs_no_torch(config: str) -> None:
    code = (
        "import sys; from megatron_nlg.cli import main\n"
        f"assert main(['check', {config!r}, '--ranks', '2']) == 0\n"
        "print('LOADED', {'torch', 'deepspeed', 'megatron'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.rstrip().endswith("LOADED set()")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([3], "3"), ([0, 1], "0-1"), (range(8), "0-7"), ([0, 4], "0, 4"), (range(0, 280, 8), "0, 8, … 272 (35)")],
)
def test_abbreviate(numbers: list[int], text: str) -> None:
    assert abbreviate(list(numbers)) == text
