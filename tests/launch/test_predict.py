"""`megatron-nlg plan` as a user types it, where it predicts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from megatron_nlg import cli
from tests.job import command

MT_NLG = ("plan", "configs/runs/mt_nlg_530b.yaml", "--cluster", "configs/clusters/selene.yaml")
PUBLISHED = ("--stack", "megatron-deepspeed-2022")


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize(("nodes", "seconds", "tflops"), [(280, 60.1, 126), (420, 44.4, 113)])
def test_mt_nlg_as_published(capsys: pytest.CaptureFixture[str], nodes: int, seconds: float, tflops: float) -> None:
    found = json.loads(output(capsys, *MT_NLG, "--nodes", str(nodes), "--fixed", "--json", *PUBLISHED))
    assert set(found) == {"step_seconds", "tflops_per_gpu", "peak_memory_gib", "fits", "breakdown", "layout"}
    assert found["step_seconds"] == pytest.approx(seconds, rel=0.03)
    assert found["tflops_per_gpu"] == pytest.approx(tflops, rel=0.03)
    assert found["fits"] and 20 < found["peak_memory_gib"] < 80
    assert sum(found["breakdown"].values()) == pytest.approx(found["step_seconds"], abs=1e-3)
    assert found["layout"]["data"] == nodes // 35
    assert found["layout"]["micro_batches"] == 1920 * 35 // nodes


def test_ten_replicas_follow_the_rounding_rule_of_the_ramp(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(output(capsys, *MT_NLG, "--nodes", "350", "--fixed", "--json", *PUBLISHED))
    assert found["layout"]["micro_batches"] == 192
    assert cli.main([*MT_NLG, "batch.ramp.rounding=error", "--nodes", "350", "--fixed"]) == 2
    assert "batch.ramp: levels 32" in capsys.readouterr().err


def test_a_table_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, *MT_NLG, "--nodes", "280", "--fixed")
    assert "240 micro-batches of 1, recompute full, ZeRO-1" in text
    assert "GiB of 80 on stage 0: fits" in text
    assert "with recomputation" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nodes", "561"], "--nodes 561: selene has 560"),
        (["--nodes", "3"], "needs a multiple of 280 ranks, and there are 24"),
        (["--nodes", "280", "parallel.tensor=3"], "is not divisible by parallel.tensor 3"),
    ],
)
def test_what_is_refused(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert cli.main([*MT_NLG, *words, "--fixed"]) == 2
    assert says in capsys.readouterr().err


def test_an_answer_in_seconds() -> None:
    start = time.monotonic()
    with command(*MT_NLG, "--nodes", "280", "--fixed", "--json", fresh=True) as job:
        code, out, error = job.wait()
    assert code == 0, error
    assert json.loads(out)["fits"]
    assert time.monotonic() - start < 15, "three seconds on a machine that does nothing else"


def test_the_search_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, *MT_NLG, "--nodes", "280")
    assert "layouts fit 280 nodes × 8 of selene at 1,920 sequences, stack this" in text
    assert "the config's own layout takes 1.3" in text
    assert "not legal: " in text and "does not fit: " in text
    found = json.loads(output(capsys, *MT_NLG, "--nodes", "280", "--json"))
    best = found["layouts"][0]
    again = json.loads(output(capsys, *MT_NLG, *best["overrides"], "--nodes", "280", "--fixed", "--json"))
    assert again == {key: best[key] for key in again}
    assert found["fitting"] == len(found["layouts"]) + len(found["estimated"])


def test_no_layout_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*MT_NLG, "--nodes", "280", "--memory", "4"]) == 2
    assert "no layout fits; the nearest: stage" in capsys.readouterr().err


def test_the_run_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    words = (*MT_NLG, "--nodes", "280", "--fixed", *PUBLISHED, "--price", "2", "--watts", "700", "--mtbf", "40000")
    text = output(capsys, *words, "--scaling")
    for part in ("270 G tokens in", "at 2 a GPU-hour", "MWh at 700 W", "checkpoint.interval=", "weak   scaling"):
        assert part in text
    run = json.loads(output(capsys, *words, "--json"))["run"]
    assert run["cost"] == pytest.approx(2 * run["gpu_hours"], rel=1e-4)
    assert run["megawatt_hours"] == pytest.approx(run["gpu_hours"] * 7e-4, rel=1e-4)
    assert run["failures"]["job_mtbf_hours"] == pytest.approx(40000 / 280)
    assert run["strong_scaling"] == []
    assert cli.main([*words, "--price", "-1"]) == 2
    assert "--price -1: a number above 0" in capsys.readouterr().err


def test_a_classifiers_run_is_not_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(
        f"include: ['{Path('configs/models/tiny.yaml').resolve()}']\ntask: classification\nbatch: {{global: 8}}\n"
        "optimizer: {lr: 1e-4}\nschedule: {}\n"
        "data: {classification: {train: t.tsv, labels: [a, b], max_length: 16}}\n"
    )
    for option in ([], ["--fixed"]):
        assert cli.main(["plan", str(run), "--cluster", "configs/clusters/cpu_laptop.yaml", *option]) == 2
        assert "task: classification: plan predicts pretraining only" in capsys.readouterr().err
