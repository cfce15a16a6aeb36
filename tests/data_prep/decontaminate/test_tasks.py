import gzip
import json
from pathlib import Path

import pytest

from data_prep.decontaminate.tasks import missing_files, read_task
from data_prep.recipe.decontaminate import Decontaminate, Task
from megatron_nlg.config.errors import InputError

ROWS = [
    {"question": {"stem": "Why?", "choices": [{"text": "A", "label": "x"}, {"text": "B"}]}, "answer": 3, "ctx": "C"},
    {"question": {"stem": "How?"}, "ctx": ["D", "E"]},
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    text = "\n".join(map(json.dumps, ROWS)) + "\n\n"
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_texts_of_rows(files: Path) -> None:
    def texts(*keys: str, path: str = "a.jsonl") -> list[str]:
        return read_task(Task(name="t", paths=(path,), keys=keys), files)

    assert texts("ctx") == ["C", "D", "E"]
    assert texts("question.stem", "question.choices.text") == ["Why?", "A", "B", "How?"]
    assert texts() == ["Why?", "A", "x", "B", "C", "How?", "D", "E"]
    assert texts("ctx", path="b.jsonl.gz") == ["C", "D", "E"]
    assert texts("ctx", path="*.jsonl*") == ["C", "D", "E"] * 2


def test_what_can_not_be_read_is_named(files: Path) -> None:
    with pytest.raises(InputError, match="task t has no text under nothing; set its keys"):
        read_task(Task(name="t", paths=("a.jsonl",), keys=("nothing",)), files)
    (files / "c.jsonl").write_text('{"a": "b"}\n{"a"')
    with pytest.raises(InputError, match=r"c\.jsonl:2: not valid JSON.*leave out task t"):
        read_task(Task(name="t", paths=("c.jsonl",)), files)
    whole = (files / "b.jsonl.gz").read_bytes()
    for damaged in (whole[:-9], b"no gzip", whole[:30] + b"\xff" * 9 + whole[39:]):
        (files / "d.jsonl.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"d\.jsonl\.gz: can't be read as JSON lines"):
            read_task(Task(name="t", paths=("d.jsonl.gz",)), files)
    settings = Decontaminate(tasks=(Task(name="t", paths=("x.jsonl", "a.jsonl", "none*.jsonl")),))
    assert [problem.key for problem in missing_files(settings, files)] == ["decontaminate.tasks.0.paths"] * 2
