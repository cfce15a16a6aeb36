import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep.classifier import ABOUT, WEIGHTS
from data_prep.recipe import Quality
from data_prep.stages.quality import PICTURE, draws, keeps
from megatron_nlg.cli import main
from tests.data_prep.material import sentence, tree_bytes


def test_draws_depend_on_seed_and_id_alone() -> None:
    ids = [f"s/{i}" for i in range(20_000)]
    values = draws(ids, 1, "keep")
    assert draws(ids[::-1], 1, "keep").tolist() == values[::-1].tolist()
    assert abs(np.corrcoef(values, draws(ids, 2, "keep"))[0, 1]) < 0.03
    assert np.histogram(values, 10, (0, 1))[0].min() > 1800


@pytest.mark.parametrize(("score", "alpha"), [(0.0, 3.0), (0.5, 3.0), (0.9, 3.0), (0.5, 9.0)])
def test_pareto_keeps_the_share_that_its_distribution_says(score: float, alpha: float) -> None:
    ids = [f"s/{i}" for i in range(20_000)]
    kept = keeps(np.full(len(ids), score), ids, Quality(alpha=alpha), 7).mean()
    assert kept == pytest.approx((1 + 1 - score) ** -alpha, abs=0.01)  # P(Lomax(alpha) > x) = (1 + x)^-alpha
    assert keeps(np.array([0.2, 0.5]), ids[:2], Quality(rule="threshold"), 7).tolist() == [False, True]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    def bad(i: int) -> str:
        return sentence(i, 40).replace("e", "i")

    rows = {"good": [sentence(i, 40) for i in range(150)], "web": [bad(i) if i % 3 else sentence(500 + i, 40)
            for i in range(200)], "raw": [bad(1000 + i) for i in range(150)]}  # fmt: skip
    for name, texts in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "recipe.yaml").write_text(
        f"""
        out: {tmp_path}/out
        root: {tmp_path}
        sources:
          - {{name: good, paths: [good.jsonl]}}
          - {{name: raw, paths: [raw.jsonl]}}
          - {{name: web, paths: [web.jsonl]}}
        clean: {{min_characters: 20}}
        quality: {{sources: [web], positives: [good], negatives: [raw], bucket_bits: 14, train_documents: 100,
                   rule: threshold}}
        tokenizer: {{kind: char}}
        shard_bytes: 8000
        processes: 1
        """
    )
    return tmp_path / "recipe.yaml"


def prep(*words: object) -> int:
    return main(["prep", *map(str, words)])


def test_train_score_and_keep(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prep("quality", recipe) == 0
    stage = json.loads((tmp_path / "out" / "stats.json").read_text())["stages"]["quality"]
    about: dict[str, Any] = stage["details"]["classifier"]
    assert about["held_out_accuracy"] > 0.9
    assert about["positives"] + about["negatives"] + about["held_out"] < 250
    assert sum(stage["details"]["score_histogram"]["web"]) == 200
    assert stage["sources"]["good"]["documents_out"] == 150
    assert 100 < stage["sources"]["web"]["dropped"]["low_quality"]["documents"] < 150
    folder = tmp_path / "out/shards/quality"
    scores = pq.ParquetDataset(sorted(folder.glob("*.scores.parquet"))).read()
    assert len(scores) == 200
    kept = {row["id"]: row["score"] for row in scores.to_pylist() if row["keep"]}
    shards = [path for path in folder.glob("web-*.parquet") if ".scores." not in path.name]
    rows = [row for path in shards for row in pq.ParquetFile(path).read().to_pylist()]
    assert {row["id"]: json.loads(row["attributes"])["quality_score"] for row in rows} == pytest.approx(kept)
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG")
    # The same with two workers, and with the classifier just trained.
    assert prep("quality", recipe, "processes=2", "--out", tmp_path / "two") == 0
    assert tree_bytes(tmp_path / "two") == tree_bytes(tmp_path / "out")
    given = f"quality={{model: {folder}, positives: null, negatives: null}}"
    assert prep("quality", recipe, given, "--out", tmp_path / "given") == 0
    for name in (WEIGHTS, ABOUT, PICTURE, *(path.name for path in shards)):
        assert (tmp_path / "given/shards/quality" / name).read_bytes() == (folder / name).read_bytes()
    assert prep("quality", recipe, "quality.train_documents=5", "--out", tmp_path / "few") == 2
    assert "are too few to train and test a classifier" in capsys.readouterr().err
