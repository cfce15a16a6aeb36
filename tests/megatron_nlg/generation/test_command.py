"""`megatron-nlg generate`: bad input before a rank starts, and one whole run of the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.schema import RunConfig
from megatron_nlg.data.tokenizer import run_tokenizer
from megatron_nlg.generation.command import _append
from tests.job import command
from tests.megatron_nlg.data.corpus import write_corpus
from tests.megatron_nlg.training.test_trainer import go
from tests.tiny import tiny
from tests.world import World


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints, the newer one damaged."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny(
        f"data.blend={write_corpus(folder / 'corpus')}",
        "data.split=[0.8, 0.2]",
        "evaluation.batches=0",
        "checkpoint.interval=2",
        f"schedule.train_tokens={16 * 32 * 4}",
        "parallel.tensor=2",
    )
    assert world.run(2, go, config, folder / "run") == ["done"] * 2
    next((folder / "run" / "checkpoints" / "step_00000004").glob("*.distcp")).write_bytes(b"")
    return folder / "run"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main(["generate", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("megatron-nlg generate: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("option", "value", "range_"),
    [
        ("--top-p", "0", "above 0 and at most 1"),
        ("--top-p", "1.5", "above 0 and at most 1"),
        ("--top-p", "nan", "above 0 and at most 1"),
        ("--temperature", "-1", "0 or more"),
        ("--temperature", "nan", "0 or more"),
        ("--temperature", "inf", "0 or more"),
        ("--max-tokens", "0", "1 or more"),
        ("--seed", "-1", "from 0 to"),
    ],
)
def test_bad_options(capsys: pytest.CaptureFixture[str], option: str, value: str, range_: str) -> None:
    message = refused(capsys, "none", "--prompt", "x", f"{option}={value}")
    assert f"{option} {value}" in message.replace("-1.0", "-1").replace("0.0", "0") and range_ in message


def test_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path}: has no config.yaml; name the folder of a run" in refused(capsys, tmp_path, "--prompt", "x")


def test_the_corpus_has_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny(f"data.blend={tmp_path}/none/blend.yaml")))
    assert "none/blend.yaml: no such file" in refused(capsys, tmp_path, "--prompt", "x")


def test_an_impossible_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny()))
    assert cli.main(["generate", str(tmp_path), "--prompt", "x", "parallel.tensor=3"]) == 2
    assert "parallel.tensor 3" in capsys.readouterr().err


def test_a_row_is_added_whole(tmp_path: Path) -> None:
    for text in ("one\ntwo", "drei – é"):
        _append(tmp_path / "samples.jsonl", {"text": text})
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == [{"text": "one\ntwo"}, {"text": "drei – é"}]


def characters(config: RunConfig, ids: list[int]) -> str:
    return run_tokenizer(config, Path()).decode(ids)


@pytest.mark.slow
def test_the_command(run: Path) -> None:
    """Two prompts on the two stages of a pipeline; the damaged checkpoint is said and the older one used."""
    from megatron_nlg.config.validate import load_config

    prompt = characters(load_config(run / "config.yaml"), [3, 1, 4])
    arguments = ("--prompt", prompt, "--prompt", "", "--greedy", "--max-tokens", "5", "--save")
    with command("generate", run, *arguments, "parallel.pipeline=2") as job:
        code, out, err = job.wait()
        assert job.alive() == []
    assert code == 0, err
    assert err.startswith("damaged checkpoint ") and "step_00000004" in err and err.count("\n") == 1
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == [prompt, ""]
    assert out == "".join(f"{row['prompt']}{row['text']}\n" for row in rows)
    for row in rows:
        assert row["step"] == 2 and 1 <= len(row["text"]) <= 5
        assert row["settings"] == {"temperature": 0.0, "top_p": 0.9, "max_tokens": 5, "seed": 0}


@pytest.mark.slow
def test_a_run_without_a_checkpoint(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "config.yaml", tmp_path)
    with command("generate", tmp_path, "--prompt", "") as job:
        assert job.wait() == (
            2,
            "",
            f"megatron-nlg generate: {tmp_path}/checkpoints: holds no checkpoint; train first, or name the run's "
            "folder\n",
        )
        assert job.alive() == []
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
