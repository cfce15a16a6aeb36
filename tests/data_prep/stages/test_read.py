import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from megatron_nlg.cli import main
from tests.data_prep.material import sentence


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [json.dumps({"text": sentence(i, 10), "n": i}) for i in range(60)]
    rows[7:7] = ["", "{", '{"text": 1}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    (tmp_path / "b.txt").write_text(sentence(99))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "notes.bin").write_bytes(b"\0")
    (tmp_path / "recipe.yaml").write_text(
        f"""
        out: {tmp_path}/out
        root: {tmp_path}
        sources:
          - {{name: all, paths: [b.txt, a.jsonl, more]}}
        tokenizer: {{kind: char}}
        processes: 1
        """
    )
    return tmp_path / "recipe.yaml"


def read(recipe: Path, *words: object) -> int:
    return main(["prep", "read", *map(str, (recipe, *words))])


def documents(out: Path) -> list[dict[str, str]]:
    return [row for path in sorted((out / "shards/read").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_split_file_gives_the_same_documents_and_rejects(recipe: Path, tmp_path: Path) -> None:
    assert read(recipe) == 0
    whole = documents(tmp_path / "out")
    assert [row["id"] for row in whole[:3]] == ["all/b.txt", "all/a.jsonl:1", "all/a.jsonl:2"]
    for size in (100, 1999):
        assert read(recipe, f"shard_bytes={size}", "--out", tmp_path / f"o{size}") == 0
        assert documents(tmp_path / f"o{size}") == whole
        rejects = (tmp_path / f"o{size}" / "rejects.jsonl").read_bytes()
        assert rejects == (tmp_path / "out" / "rejects.jsonl").read_bytes()
    assert len(list((tmp_path / "o100/shards/read").glob("*.parquet"))) > 20


def test_too_many_rejects_stop_the_run(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert read(recipe, "read.max_reject_share=0.03") == 2
        message = capsys.readouterr().err
        assert "source all: 2 of 63 records (3%) can't be read (1 invalid_json, 1 wrong_type)" in message
        assert "read.max_reject_share 0.03" in message
        assert "a.jsonl:9: invalid_json" in message
        assert "a.jsonl:10: wrong_type" in message
        assert not (tmp_path / "out" / "shards" / "read").exists()
    assert read(recipe) == 0  # the unknown ending does not count
    capsys.readouterr()
    assert read(recipe, "read.max_reject_share=0.03") == 2  # also of what was read before
    assert "a.jsonl:9" in capsys.readouterr().err


def test_a_stage_that_the_recipe_does_not_have(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prep", "filter", str(recipe)]) == 2
    assert "the recipe has no section filter" in capsys.readouterr().err
