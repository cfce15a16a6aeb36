import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.shards import Document
from tests.data_prep.readers.material import read


def test_rows_become_documents_or_rejects(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"body": ["one", None, " ", "x" * 99, "two"], "url": ["u", "v", "w", "x", None], "n": [1, 2, 3, 4, None]}
    pq.write_table(pa.table(columns), path)
    documents, rejects = read(path, None, "parquet", text_key="body", max_document_bytes=50)
    assert documents == [
        Document("s/a.parquet:1", "one", "s", "u", '{"n": 1}'),
        Document("s/a.parquet:5", "two", "s", None, '{"n": null}'),
    ]
    assert [(r.line, r.reason) for r in rejects] == [(2, "wrong_type"), (3, "empty"), (4, "too_large")]


def test_no_text_column_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1], "when": pa.array([0], pa.timestamp("s")), "text": ["a"]}), path)
    _, (reject,) = read(path, None, "parquet", text_key="body")
    assert (reject.reason, "text_key" in reject.detail) == ("missing_text", True)
    _, (reject,) = read(path, None, "parquet", text_key="n")
    assert reject.reason == "wrong_type"
    (document,), _ = read(path, None, "parquet")
    assert json.loads(document.attributes or "") == {"n": 1, "when": "1970-01-01 00:00:00"}
    _, (reject,) = read(path, path.read_bytes()[:-9], "parquet")
    assert reject.reason == "damaged_parquet"
