"""The demo itself, small: own texts, a short run, a real kill and resume."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.job import command

SMALL = [
    "model.num_layers=2",
    "model.hidden_size=64",
    "model.sequence_length=64",
    "schedule.train_tokens=24576",  # 28 steps
    "schedule.warmup_tokens=4096",
    "batch.ramp.tokens=4096",
    "checkpoint.interval=5",
    "evaluation={interval: 14, batches: 1}",
]


def demo(*arguments: str) -> tuple[int, str, str]:
    with command("demo", *arguments) as job:
        return job.wait(280)


@pytest.mark.slow
def test_raw_text_to_report_over_a_kill(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts", tmp_path / "demo"
    texts.mkdir()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:60]:
        shutil.copy(path, texts / f"{path.stem}.txt")
    code, said, err = demo("--corpus", str(texts), "--out", str(out), *SMALL)
    assert code == 0, said + err
    closing = said.splitlines()[-5:]
    assert [line.split()[0] for line in closing] == ["report", "loss", "speed", "kill", "try"]
    first, last = (float(word) for word in closing[1].split()[1:4:2])
    assert last < first
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    resumes = [event["step"] for event in events if event["event"] == "resume"]
    assert len(resumes) == 1 and 0 < resumes[0] < events[-1]["step"]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "split" not in row]
    assert steps == list(range(1, len(steps) + 1))  # the curve goes on: every step once
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 3 and all(sample["prompt"] for sample in samples)
    assert "resumed after" in (out / "report.html").read_text()


def test_a_corpus_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    code, _, err = demo("--corpus", str(tmp_path / "none"), "--out", str(tmp_path / "demo"))
    assert code == 2
    assert err.count("\n") == 1 and "no such folder" in err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    code, _, err = demo("--out", str(tmp_path))
    assert code == 2 and "is not a demo's folder" in err
    assert (tmp_path / "config.yaml").read_text() == "mine"
