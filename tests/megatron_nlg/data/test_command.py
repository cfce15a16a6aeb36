"""`megatron-nlg index`: the same bytes as training builds, and what larger jobs are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.files import file_sha256
from megatron_nlg import cli
from megatron_nlg.config.dump import to_yaml
from megatron_nlg.config.errors import InputError
from megatron_nlg.data.datasets import build_datasets
from tests.megatron_nlg.data.corpus import alone, write_corpus
from tests.megatron_nlg.data.test_datasets import config


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_it_builds_what_training_would(blend: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = "data.stages=[{from_tokens: 4096, weights: {code: 1}}]"
    (tmp_path / "run.yaml").write_text(to_yaml(config(blend, stage)))
    command = ["index", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]
    assert cli.main(command) == 0
    assert "built: 336 samples" in capsys.readouterr().out
    assert cli.main(command) == 0
    assert "is there already" in capsys.readouterr().out
    with alone():
        build_datasets(config(blend, stage), tmp_path / "trained")
    assert content(tmp_path / "run" / "data_index") == content(tmp_path / "trained" / "data_index")
    assert len(content(tmp_path / "run" / "data_index")) > 10


@pytest.mark.parametrize(
    ("override", "message"),
    [("seed=1", "--out: the run folder is needed"), ("data.blend=null", "data.blend: is required to train")],
)
def test_bad_input(
    blend: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(config(blend)))
    out = [] if override == "seed=1" else ["--out", str(tmp_path)]
    assert cli.main(["index", str(tmp_path / "run.yaml"), override, *out]) == 2
    assert message in capsys.readouterr().err


def _built(blend: Path, folder: Path, *overrides: str) -> str:
    try:
        build_datasets(config(blend, *overrides), folder)
    except InputError as error:
        return str(error)
    return "built"


def test_a_large_job_does_not_build_indices_by_itself(world: Any, blend: Path, tmp_path: Path) -> None:
    large = "data.build_index_ranks=1"
    for message in world.run(2, _built, blend, tmp_path, large):
        assert "2 ranks (more than 1)" in message and f"megatron-nlg index CONFIG --out {tmp_path}" in message
    assert world.run(1, _built, blend, tmp_path, large) == ["built"]
    assert world.run(2, _built, blend, tmp_path, large) == ["built", "built"]
