import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from megatron_nlg.cli import main
from tests.data_prep import crash
from tests.data_prep.material import sentence, tree_bytes, variants


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """JSON lines with near-duplicates of each other, and a text that repeats one of them."""
    texts = [*variants(80, seed=2), sentence(500, 60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    (tmp_path / "b.txt").write_text(f"{sentence(500, 60).upper()}\n")
    return [tmp_path / "a.jsonl", tmp_path / "b.txt"]


def dedup(*words: object) -> int:
    return main(["prep", "dedup", *map(str, words)])


def test_files_to_clusters(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["--input", *files, "--output", out, "--text-key", "body", "--threshold", "0.7", "--workers", 1]
    assert dedup(*words, "--plot", "--show", 1) == 0
    shown, said = capsys.readouterr()
    assert shown.splitlines()[-1] == str(out / "clusters.parquet")
    rows = pq.read_table(out / "clusters.parquet").to_pylist()
    assert len(rows) == 82
    assert list(rows[0]) == ["id", "cluster", "keep"]
    assert rows[81] == {"id": f"input/{files[1]}", "cluster": 80, "keep": False}
    assert rows[80]["keep"]
    kept = [row["cluster"] for row in rows if row["keep"]]
    assert sorted({row["cluster"] for row in rows}) == sorted(kept)
    assert f"82 documents, {len(kept)} kept" in said
    left = [
        i for path in sorted((out / "shards/dedup").glob("*.parquet")) for i in pq.read_table(path)["id"].to_pylist()
    ]
    assert left == [row["id"] for row in rows if row["keep"]]
    before = (out / "clusters.parquet").stat().st_mtime_ns
    assert dedup(*words) == 0
    assert (out / "clusters.parquet").stat().st_mtime_ns == before
    sizes = json.loads((out / "stats.json").read_text())["dedup"]["sizes"]
    largest = max(map(int, sizes))
    assert f"cluster 1 of {sum(sizes.values())}: {largest} documents" in shown
    assert shown.count("  kept ") == 1
    assert (out / "clusters.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_another_threshold_does_not_stay(files: list[Path], tmp_path: Path) -> None:
    words = ["--input", *files, "--output", tmp_path / "out", "--text-key", "body", "--workers", 1]
    assert dedup(*words, "--threshold", 0.7) == 0
    loose = (tmp_path / "out/clusters.parquet").read_bytes()
    assert dedup(*words, "--threshold", 0.95) == 0
    assert (tmp_path / "out/clusters.parquet").read_bytes() != loose
    (tmp_path / "out/clusters.parquet").write_bytes(loose)  # as if killed between the stage and its table
    assert dedup(*words, "--threshold", 0.95) == 0
    assert (tmp_path / "out/clusters.parquet").read_bytes() != loose
    (tmp_path / "out/clusters.parquet").write_bytes(loose[:100])
    assert dedup(*words, "--threshold", 0.7) == 0
    assert (tmp_path / "out/clusters.parquet").read_bytes() == loose


def test_a_recipes_clusters(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{{name: s, paths: [{files[0]}], text_key: body}}"
    rest = "clean: {min_characters: 1}\ntokenizer: {kind: char}\nprocesses: 1\n"
    (tmp_path / "r.yaml").write_text(f"out: {tmp_path / 'out'}\nsources: [{source}]\n{rest}")
    assert dedup(tmp_path / "r.yaml", "--show", 3, "--plot") == 0
    assert capsys.readouterr().out.count("  kept ") == 3
    assert (tmp_path / "out/clusters.png").exists()


@pytest.mark.slow
def test_killed_at_any_rename_and_run_again_with_other_workers(files: list[Path], tmp_path: Path) -> None:
    words = ["--input", *map(str, files), "--text-key", "body", "--threshold", "0.7", "--output"]
    assert dedup(*words, tmp_path / "whole", "--workers", 1) == 0
    deaths, workers = 0, 1
    while True:
        code = crash.prep(4, "dedup", *words, tmp_path / "killed", "--workers", workers)
        if code == 0:
            break
        assert code == 137
        deaths, workers = deaths + 1, 3 - workers
        assert deaths < 15
    assert deaths >= 3
    assert tree_bytes(tmp_path / "killed") == tree_bytes(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "takes a recipe (with --out), or --input FILES and --output DIR"),
        (["--input", "x.jsonl"], "or --input FILES and --output DIR"),
        (["--input", "none/*.jsonl", "--output", "out"], "'none/*.jsonl' matches nothing"),
        (["--input", "a.jsonl", "--output", "out", "--threshold", "1.5"], "dedup.threshold"),
        (["--input", "a.jsonl", "--output", "out", "--permutations", "0"], "dedup.num_perm"),
        (["--input", "a.jsonl", "--output", "out", "--workers", "-1"], "processes"),
        (["--input", "a.jsonl", "--output", "out"], "missing_text"),
    ],
)
def test_bad_input(
    words: list[str],
    message: str,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dedup(*words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out/clusters.parquet").exists()
