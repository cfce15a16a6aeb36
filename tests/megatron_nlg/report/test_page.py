"""The page: complete, self-contained, sound HTML, everything escaped."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from megatron_nlg.report.page import page
from megatron_nlg.report.record import read_record
from tests.megatron_nlg.report.example import write_corpus_stats, write_run, write_samples

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Text and headings; fails on a tag that is closed wrongly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.tags: set[str] = set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    run = write_run(folder / "demo", f"data.blend={write_corpus_stats(folder / 'corpus')}")
    write_samples(run)
    return run


def test_a_classifier_shows_accuracy_and_f1(tmp_path: Path) -> None:
    settings = "{train: t.tsv, labels: [bad, good], max_length: 32}"
    run = write_run(tmp_path / "run", "task=classification", f"data.classification={settings}")
    rows = [{"split": "valid", "step": 9, "source": "validation", "loss": 0.4, "accuracy": 0.75, "f1": 0.5}]
    kept = [row for row in (run / "metrics.jsonl").read_text().splitlines() if "valid" not in row]
    (run / "metrics.jsonl").write_text("\n".join([*kept, *map(json.dumps, rows)]) + "\n")
    read = Reader(page(read_record(run)))
    assert read.headings[:2] == ["Loss", "Accuracy"]
    assert "F1 is that of class good" in read.text and "0.7500" in read.text and "perplexity" not in read.text
    assert "Mean over texts" in read.text


def test_every_section_is_there(run: Path) -> None:
    read = Reader(page(read_record(run)))
    assert read.headings == [
        *("Loss", "Learning rate and batch", "Throughput and gradient norm", "Layout", "Data"),
        *("Samples", "Checkpoints", "Events", "Config"),
    ]
    for text in (
        *("finished", "resumed after 40", "5.628 → 2.089", "validation loss, code", "1resume"),
        *("tensor 2 × pipeline 2 × data 2", "FLOPs per token", "no MFU", "exact duplicate 610, near duplicate 320"),
        *("a list of <objects> & their names", "top_p 0.9, seed 3", "checkpoints/step_120", "123 kB"),
        *("train_tokens: 61440", "16 sequences, from 8 by 4 over 12 k tokens"),
    ):
        assert text in read.text, text


def test_nothing_is_loaded_from_outside(run: Path) -> None:
    html = page(read_record(run))
    assert not re.search(r'(?:src|href)\s*=\s*"(?!#)', html)
    assert "@import" not in html
    assert "url(http" not in html
    assert Reader(html).tags.isdisjoint({"script", "link", "img", "iframe", "object"})


def test_what_comes_from_files_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror='x'>&amp;\""
    run = write_run(tmp_path / "<b>run", f"data.blend={write_corpus_stats(tmp_path / 'corpus')}")
    write_samples(run, {"prompt": evil, "text": evil + evil, "settings": {evil: evil}})
    stats = tmp_path / "corpus" / "stats.json"
    stats.write_text(stats.read_text().replace("docs", "<script>").replace("too_short", "<i>short"))
    for name in ("metrics.jsonl", "events.jsonl"):
        path = run / name
        path.write_text(path.read_text().replace('"docs"', '"<script>$"').replace('"cpu"', '"<img>"'))
    read = Reader(page(read_record(run)))
    assert read.tags.isdisjoint({"script", "img", "i"})
    assert evil in read.text
    assert "<script>$" in read.text


def test_a_run_without_a_step_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in ("metrics.jsonl", "events.jsonl"):
        (run / name).unlink()
    read = Reader(page(read_record(run)))
    assert read.headings == ["Loss", "Config"]
    assert "No step has been logged yet." in read.text


def test_losses_that_are_no_number_are_gaps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = run / "metrics.jsonl"
    path.write_text(re.sub(r'"(loss|grad_norm|perplexity)": [\d.]+', r'"\1": null', path.read_text()))
    assert "– → –" in Reader(page(read_record(run))).text


def test_removed_checkpoints_and_a_changed_layout_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "step_40")
    path = run / "events.jsonl"
    first, rest = path.read_text().split("\n", 1)
    path.write_text(first.replace('"tensor": 2', '"tensor": 1') + "\n" + rest)
    text = Reader(page(read_record(run))).text
    assert "removed by the retention policy" in text
    assert "tensor 1 × pipeline 2 × data 2 → tensor 2 × pipeline 2 × data 2" in text


def test_stages_of_the_data_are_listed(tmp_path: Path) -> None:
    stages = "data.stages=[{from_tokens: 20000, blend: late.yaml, weights: {docs: 0.5, '<b>': 2}}]"
    text = page(read_record(write_run(tmp_path / "run", stages)))
    assert "<td>from 20 k tokens</td><td>late.yaml; docs 0.5, &lt;b&gt; 2</td>" in text
