import json
from pathlib import Path

from data_prep.jobs import Done
from data_prep.report.samples import COUNT, Sample, dropped, kept, rejected
from data_prep.shards import Document, write_shard


def stage(folder: Path, shards: dict[str, list[tuple[str, str]]]) -> Done:
    folder.mkdir()
    for name, rows in shards.items():
        write_shard(folder / name, [Document(i, text, "s") for i, text in rows])
    return Done(folder.name, "", folder, {"shards": {"s": list(shards)}}, was_done=True)


def test_kept_documents_come_from_all_shards(tmp_path: Path) -> None:
    names = {f"s-{i:02}.parquet": [(f"{i}-{k}", f"text {k} " * 100) for k in range(7)] for i in range(25)}
    found = kept(stage(tmp_path / "a", names))
    assert [sample.id.split("-")[0] for sample in found] == [str(25 * i // COUNT) for i in range(COUNT)]
    assert all(len(sample.text) == 400 for sample in found)
    few = kept(stage(tmp_path / "b", {"s-0.parquet": [("x", "short"), ("y", "")], "s-1.parquet": []}))
    assert few == [Sample("x", "short"), Sample("y", "")]


def test_dropped_documents_and_why(tmp_path: Path) -> None:
    rows = [(str(i), f"text {i}") for i in range(40)]
    before = stage(tmp_path / "before", {"s-0.parquet": rows, "gone.parquet": rows})
    left = [row for row in rows if int(row[0]) % 3] + [("3#0", "piece"), ("3#1", "piece"), ("6#0", "piece")]
    after = stage(tmp_path / "after", {"s-0.parquet": left})
    lines = [{"id": "0", "reason": "exact_duplicate", "kept": "k"}, {"id": "9", "outcome": "removed", "tasks": ["t"]}]
    (after.folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = dropped(before, after)
    assert [sample.id for sample in found] == ["0", "9", "12", "15", "18", "24", "27", "30", "33", "36"]
    assert found[0] == Sample("0", "text 0", "exact duplicate for k")
    assert found[1].note == "removed, t"
    assert found[2].note == ""
    assert dropped(before, before) == []


def test_rejected_lines(tmp_path: Path) -> None:
    rows = [{"file": "f", "line": i, "reason": "invalid_json"} for i in range(100)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = rejected(tmp_path / "r.jsonl")
    assert [sample.id for sample in found] == [f"f:{10 * i}" for i in range(10)]
    assert found[0].note == "invalid_json"
