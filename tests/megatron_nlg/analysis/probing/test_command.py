"""`megatron-nlg analyze collection` and `probe` from their command lines: whole, killed and gone on with, refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from megatron_nlg import cli
from tests import dying
from tests.job import command
from tests.megatron_nlg.analysis.models import TEXTS, write_bert, write_gpt2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`, `bert`, `rows.tsv` of queries and passages, and the `collection` made of them."""
    made = tmp_path_factory.mktemp("probing")
    write_gpt2(made)
    write_bert(made, layers=1)
    words = sorted({word for text in TEXTS for word in text.split()})
    draw = np.random.default_rng(0)
    lines = [" ".join(draw.choice(words, 2)) + "\t" + " ".join(draw.choice(words, 6)) for _ in range(60)]
    (made / "rows.tsv").write_text("asked\ttold\n" + "".join(f"{line}\n" for line in lines))
    arguments = ["--query", "asked", "--passage", "told", "--out", str(made / "collection")]
    assert cli.main(["analyze", "collection", str(made / "rows.tsv"), *arguments]) == 0
    return made


def arguments(folder: Path, out: Path, *options: str) -> list[str | Path]:
    data = ("--collection", folder / "collection", "--task", "relevance", "--limit", "60")
    return ["analyze", "probe", folder / "run", "--against", folder / "bert", *data, "--out", out, *options]


@pytest.mark.slow
def test_a_study_whole_and_killed(folder: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with command(*arguments(folder, whole)) as job:
        code, said, err = job.wait()
    assert (code, said) == (0, f"{whole / 'report.html'}\n"), err
    dying.at_row(6, *arguments(folder, killed))
    assert not (killed / "rows.jsonl").exists()
    with (killed / ".rows.jsonl.partial").open("a") as file:
        file.write('{"key": "torn')
    with command(*arguments(folder, killed)) as job:
        assert job.wait()[0] == 0
    assert (killed / "rows.jsonl").read_bytes() == (whole / "rows.jsonl").read_bytes()

    figures = json.loads((whole / "figures.json").read_text())
    assert [(model["name"], model["layers"]) for model in figures["models"]] == [("run", 5), ("bert", 2)]
    assert [ranker["ranker"] for ranker in figures["rankers"]] == ["TF-IDF", "BM25 (robertson)", "BM25 (lucene)"]
    assert all(0 < ranker["mrr"] <= 1 for ranker in figures["rankers"])
    rows = [(row["model"], row["task"], row["layer"]) for row in figures["rows"]]
    assert rows == [(model, "relevance", i) for model, layers in (("run", 5), ("bert", 2)) for i in range(layers)]
    with (whole / "layers.csv").open() as file:
        read = [float(row["compression"]) for row in csv.DictReader(file)]
    assert read == [row["compression"] for row in figures["rows"]]
    page = (whole / "report.html").read_text()
    names = {path.stem for path in (whole / "figures").iterdir()}
    assert page.count("<svg") == len(names) == len(list((whole / "figures").glob("*.png"))) == 7
    assert "BM25 (lucene)" in page and "src=" not in page

    # Other settings are refused, and what is there stays.
    before = (whole / "rows.jsonl").stat().st_mtime_ns
    with command(*arguments(folder, whole, "--seed", "1")) as job:
        code, _, err = job.wait()
    assert code == 2 and "holds rows of another job" in err and "training.seed was 0 and is 1" in err
    assert (whole / "rows.jsonl").stat().st_mtime_ns == before


def test_bad_input_is_refused_before_a_rank_starts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, collection = str(folder / "run"), ["--collection", str(folder / "collection")]
    for options, message in (
        ([run, *collection, "--limit", "9"], "--limit 9: must be 50 or more"),
        ([run, *collection, "--probe", "deep"], "--probe deep: is unknown; the kinds are linear, mlp, mix, multi"),
        ([run, *collection, "--against", run], "is named twice"),
        ([run], "--task all: nothing was given"),
        ([run, "--facts", str(folder / "absent.jsonl")], "absent.jsonl: No such file"),
        ([str(folder), *collection, "--limit", "60"], "has neither config.yaml nor config.json"),
    ):
        assert cli.main(["analyze", "probe", *options]) == 2
        assert message in capsys.readouterr().err
    rows = str(folder / "rows.tsv")
    for options, message in (
        (["--words", "9"], "--words 9: must be 10 or more"),
        (["--query", "asked"], "name both"),
        (["--query", "asked", "--passage", "answer"], "line 2: has no answer, but asked, told"),
        (["--queries", "known"], "and 0 queries"),
    ):
        assert cli.main(["analyze", "collection", rows, "--out", str(folder / "none"), *options]) == 2
        assert message in capsys.readouterr().err
    assert not (folder / "none").exists()
