"""`megatron-nlg classify` and the classifier behind it: what validation said, in every layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from megatron_nlg import cli
from megatron_nlg.config.validate import load_config
from megatron_nlg.data.labelled import read_texts, with_epochs
from megatron_nlg.generation.classifier import TrainedClassifier
from megatron_nlg.generation.classify import score_line
from tests.dying import at_row
from tests.job import command
from tests.megatron_nlg.data.texts import write_texts
from tests.megatron_nlg.training.test_trainer import go, rows
from tests.tiny import tiny
from tests.world import World


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    base = [*write_texts(folder), "data.classification.epochs=2", "optimizer.lr=2e-3"]
    assert world.run(1, go, with_epochs(tiny(*base)), folder / "run") == ["done"]
    return folder / "run"


def logits(run: Path, overrides: list[str], batch_size: int) -> torch.Tensor:
    config = load_config(run / "config.yaml", overrides)
    assert config.data.classification
    texts = read_texts(run.parent / "valid.tsv", config.data.classification, labelled=False)
    return TrainedClassifier(config, run).logits(texts, batch_size)


def test_every_layout_gives_the_logits_that_were_validated(world: World, run: Path) -> None:
    want = world.run(1, logits, run, [], 8)[0]
    config = load_config(run / "config.yaml")
    assert config.data.classification
    texts = read_texts(run.parent / "valid.tsv", config.data.classification)
    last = rows(run, "valid")[-1]
    assert score_line(texts.classes, want.softmax(dim=1).tolist()) == (
        f"37 texts: loss {last['loss']:.4f}, accuracy {last['accuracy']:.4f}, F1 {last['f1']:.4f}"
    )
    for overrides in ("parallel.tensor=2 parallel.sequence=true", "parallel.pipeline=2 parallel.interleave=2"):
        for got in world.run(2, logits, run, overrides.split(), 3):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_the_command_from_a_file_without_labels(run: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "texts.jsonl", tmp_path / "classes.jsonl"
    file.write_text('{"sentence": "ab xxx c"}\n{"sentence": "f zzz"}\n')
    with command("classify", run, "--file", file, "--out", out) as job:
        code, said, err = job.wait()
    assert (code, said) == (0, ""), err
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["text"], row["label"]) for row in found] == [("ab xxx c", "0"), ("f zzz", "1")]
    for row in found:
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert max(row["probabilities"], key=row["probabilities"].get) == row["label"]


def test_a_killed_job_goes_on_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    arguments = ("classify", run, "--file", run.parent / "valid.tsv", "--batch-size", "8")
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    with command(*arguments, "--out", whole) as job:
        code, _, scores = job.wait()
    assert code == 0, scores
    at_row(21, *arguments, "--out", cut)  # five rows into the third batch
    partial = tmp_path / ".cut.jsonl.partial"
    assert len(partial.read_bytes().splitlines()) == 21 and not cut.exists()
    partial.write_bytes(partial.read_bytes()[:-9])
    with command(*arguments, "--out", cut) as job:
        code, _, err = job.wait()
    assert (code, err) == (0, scores)
    assert cut.read_bytes() == whole.read_bytes() and not partial.exists()
    rows_of = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [row["index"] for row in rows_of] == list(range(37))
    (tmp_path / "texts.jsonl").write_text('{"sentence": "another"}\n')
    with command("classify", run, "--file", tmp_path / "texts.jsonl", "--out", cut) as job:
        code, _, err = job.wait()
    assert code == 2 and "cut.jsonl: holds rows of another job (another text)" in err
    assert cut.read_bytes() == whole.read_bytes()


def test_bad_input_is_refused_before_a_rank_starts(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(run.parent / "valid.tsv")
    (tmp_path / "bad.tsv").write_text("text\nab\n")
    for arguments, message in (
        ([str(tmp_path), "--file", good], "has no config.yaml; name the folder of a run"),
        ([str(run), "--file", str(tmp_path / "bad.tsv")], "bad.tsv:1: has no sentence"),
        ([str(run), "--file", good, "--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        ([str(run), "--file", good, "--out", str(tmp_path / "no" / "x")], "is not a folder; make it first"),
    ):
        assert cli.main(["classify", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["generate", str(run), "--prompt", "ab"]) == 2
    assert "is a classifier" in capsys.readouterr().err
