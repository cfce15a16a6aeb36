"""Reading run folders: resumed, still being written, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_nlg.config.errors import InputError
from megatron_nlg.parallel.layout import Layout
from megatron_nlg.report.record import read_record
from tests.megatron_nlg.report.example import write_corpus_stats, write_run, write_samples


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_a_resumed_run(run: Path) -> None:
    record = read_record(run)
    steps = [row["step"] for row in record.steps]
    assert steps == list(range(1, steps[-1] + 1))
    assert steps[-1] > 100
    assert [row["step"] for row in record.valid["code"]] == list(range(20, steps[-1] + 1, 20))
    assert record.resumes == [40]
    assert record.layout == Layout(pipeline=2, data=2, tensor=2)
    assert record.status == "finished"
    assert record.samples == []
    assert record.corpus is None


def test_of_a_step_that_was_taken_twice_the_last_row_counts(run: Path) -> None:
    """As in a folder whose resume did not cut the old rows off."""
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    again = [{**row, "loss": 1.25} for row in rows if row["step"] == 50 or row.get("split") == "valid"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows + again))
    record = read_record(run)
    assert [row["loss"] for row in record.steps if row["step"] in (49, 50)][1] == 1.25
    assert len(record.steps) == len({row["step"] for row in record.steps})
    assert {row["loss"] for row in record.valid["docs"]} == {1.25}


def test_a_line_that_is_being_written_is_left_out(run: Path) -> None:
    before = read_record(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "lo')
    assert read_record(run).steps == before.steps


def test_a_run_without_an_end_is_running_or_killed(run: Path) -> None:
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(lines[:-1]))
    assert read_record(run).status == "running, or killed"


def test_a_run_that_has_just_begun(run: Path) -> None:
    for name in ("metrics.jsonl", "events.jsonl"):
        (run / name).unlink()
    record = read_record(run)
    assert record.steps == record.events == record.resumes == []
    assert record.layout is None


def test_the_corpus_and_the_samples(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", f"data.blend={write_corpus_stats(tmp_path / 'corpus')}")
    write_samples(run)
    record = read_record(run)
    assert record.corpus
    assert sorted(record.corpus["stages"]) == ["clean", "dedup", "read"]
    assert record.samples[1]["prompt"] == "import"


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("metrics.jsonl", "{broken", r"metrics\.jsonl:1: not a JSON object: '\{broken'"),
        ("metrics.jsonl", '{"step": "5"}', r"metrics\.jsonl:1: step: int expected, but it is '5'"),
        ("metrics.jsonl", '{"split": "valid", "step": 5}', r"metrics\.jsonl:1: source: str expected, but it is absent"),
        ("metrics.jsonl", '{"step": true}', r"metrics\.jsonl:1: step: int expected, but it is True"),
        ("events.jsonl", '{"event": "start", "step": 0}', r"events\.jsonl:1: time: float expected, but it is absent"),
        (
            "events.jsonl",
            '{"event": "start", "step": 0, "time": 1.0, "layout": {"width": 1}}',
            r"events\.jsonl:1: layout: not understood: \{'width': 1\}",
        ),
        ("samples.jsonl", '{"prompt": "a"}', r"samples\.jsonl:1: text: str expected"),
    ],
)
def test_a_broken_line_is_named(run: Path, name: str, line: str, message: str) -> None:
    path = run / name
    path.write_text(line + "\n" + (path.read_text() if path.exists() else ""))
    with pytest.raises(InputError, match=message):
        read_record(run)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run folder: it has no config\.yaml"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"stats\.json: not valid JSON"),
        ('{"stages": {"read": {"sources": {"docs": {"documents_in": 3}}}}}', r"stages\.read\.sources\.docs: no usable"),
    ],
)
def test_broken_statistics_are_named(tmp_path: Path, text: str, message: str) -> None:
    run = write_run(tmp_path / "run", f"data.blend={write_corpus_stats(tmp_path / 'corpus')}")
    (tmp_path / "corpus" / "stats.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_record(run)
