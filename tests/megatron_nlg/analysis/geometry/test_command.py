"""`megatron-nlg analyze geometry` on a classifier trained here and a BERT."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from megatron_nlg import cli
from megatron_nlg.analysis.blocks import RunBlocks
from megatron_nlg.analysis.geometry.command import _names
from megatron_nlg.analysis.representations import Head
from megatron_nlg.config.validate import load_config
from megatron_nlg.data.labelled import with_epochs
from tests.job import command
from tests.megatron_nlg.analysis.models import write_bert
from tests.megatron_nlg.data.texts import write_texts
from tests.megatron_nlg.training.test_trainer import go, rows
from tests.tiny import tiny
from tests.world import World


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`, a classifier of two blocks, and `bert`."""
    made = tmp_path_factory.mktemp("geometry")
    base = [*write_texts(made), "data.classification.epochs=4", "optimizer.lr=2e-3", "model.num_layers=2"]
    assert world.run(1, go, with_epochs(tiny(*base)), made / "run") == ["done"]
    write_bert(made, layers=2)
    return made


def study(folder: Path, *options: str) -> dict[str, object]:
    files = ("--data", folder / "valid.tsv", "--train", folder / "train.tsv", "--points", "20")
    with command("analyze", "geometry", folder / "run", *files, "--out", folder / "out", *options) as job:
        code, said, err = job.wait()
    assert (code, said) == (0, f"{folder / 'out' / 'report.html'}\n"), err
    found: dict[str, object] = json.loads((folder / "out" / "figures.json").read_text())
    return found


@pytest.mark.slow
def test_a_study_of_two_models(folder: Path) -> None:
    found = study(folder, "--against", str(folder / "bert"))
    first, bert = found["models"]  # type: ignore[misc]
    assert first["head"]["accuracy"] == pytest.approx(rows(folder / "run", "valid")[-1]["accuracy"])  # as in training
    assert first["head"]["ablation"]["top"][0] == first["head"]["accuracy"]
    assert bert["head"] is None
    assert (bert["summary"], bert["hidden_size"], len(bert["blocks"])) == ("first", 16, 3)
    values = np.array(found["cka"]["summary"]["full"], float)  # type: ignore[index]
    assert values.shape == (3 + 3,) * 2
    np.testing.assert_allclose(np.diag(values)[:3], 1, atol=1e-6)

    out = folder / "out"
    with (out / "tables" / "cka.csv").open() as file:
        table = [row for row in csv.DictReader(file) if (row["pooling"], row["estimator"]) == ("summary", "full")]
    assert [float(row["cka"] or "nan") for row in table] == pytest.approx(values.ravel().tolist(), nan_ok=True)
    with (out / "tables" / "dimensions.csv").open() as file:
        assert len(file.readlines()) == 1 + 3 * 64 + 3 * 16
    names = {path.name for path in (out / "figures").iterdir()}
    assert {
        f"geometry-{name}.{form}" for name in ("cka-pairs", "ablation", "tsne-1") for form in ("png", "svg")
    } <= names
    page = (out / "report.html").read_text()
    assert page.count("<svg") == len(names) // 2
    assert "src=" not in page.replace('src="data:', "")

    # Again: activations are taken as they are, and every number is the same.
    kept = {path: path.stat().st_mtime_ns for path in out.glob("activations/*/*")}
    assert len(kept) == 2 * 2 + 1  # one has a head
    assert study(folder)["models"] == [first]
    assert {path: path.stat().st_mtime_ns for path in out.glob("activations/*/*")} == kept
    assert {path.name for path in out.iterdir()} == {"activations", "figures", "figures.json", "report.html", "tables"}


def heads(run: Path, overrides: list[str]) -> Head | None:
    return RunBlocks.of(load_config(run / "config.yaml", overrides), run).head()


def test_the_head_comes_from_the_last_stage(world: World, folder: Path) -> None:
    [want] = world.run(1, heads, folder / "run", [])
    assert want.layers[0].weight.shape == (2, 64)
    assert want.labels == ("0", "1")
    found, none = world.run(2, heads, folder / "run", ["parallel.pipeline=2"])
    np.testing.assert_array_equal(found.layers[0].weight, want.layers[0].weight)
    np.testing.assert_array_equal(found.layers[0].bias, want.layers[0].bias)
    assert none is None


def test_names_are_as_long_as_they_must_be(tmp_path: Path) -> None:
    assert _names([tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]) == ["a/run", "b/run", "c"]


def test_bad_input_is_refused_before_a_rank_starts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = str(folder / "run"), ["--data", str(folder / "valid.tsv")]
    for arguments, message in (
        ([run, *data, "--split", "1"], "--split 1: must be between 0 and 1"),
        ([run, *data, "--limit", "3"], "--limit 3: must be 8 or more"),
        ([run, *data, "--against", run], "is named twice; leave it out"),
        ([run, "--data", str(folder / "absent.tsv")], "absent.tsv: cannot be read"),
        ([str(folder), *data], "has neither config.yaml nor config.json"),
    ):
        assert cli.main(["analyze", "geometry", *arguments]) == 2
        assert message in capsys.readouterr().err
