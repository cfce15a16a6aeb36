import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from data_prep.report.page import page
from data_prep.report.samples import Sample
from megatron_nlg.cli import main
from tests.data_prep.material import sentence


class Tags(HTMLParser):
    """Fails on tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name in ("src", "href") and value and ":" in value for name, value in attrs)  # nothing outside
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(markup: str) -> str:
    tags = Tags()
    tags.feed(markup)
    assert tags.open == []
    return " ".join(tags.text)


def headings(markup: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", markup)


def tally(into: int, out: int, **dropped: int) -> dict[str, Any]:
    reasons = {reason: {"documents": count, "bytes": 10 * count} for reason, count in dropped.items()}
    return {
        "documents_in": into,
        "bytes_in": 10 * into,
        "documents_out": out,
        "bytes_out": 10 * out,
        "dropped": reasons,
    }


def stage(**sources: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(sources.values()))
    return {"sources": sources, "total": first}


def test_the_least_there_can_be() -> None:
    markup = page({"stages": {"read": stage(a=tally(0, 0))}}, {})
    assert headings(markup) == ["Flow of documents", "Reasons of rejection"]
    assert "Nothing was dropped." in read(markup)


def test_everything_and_all_escaped() -> None:
    lengths = [0] * 64
    lengths[10] = 5
    tasks = dict.fromkeys(("n", "texts", "ngrams", "ngrams_found", "ngrams_spared", "occurrences", "documents"), 3)
    row = {"tokens": 100, "share": 1.0, "epochs": 2.5, "samples": 3, "tokens_read": 250}
    stats = {
        "stages": {
            "read": stage(**{"<s>": tally(10, 9, invalid_json=1)}),
            "quality": stage(**{"<s>": tally(9, 5, low_quality=4)})
            | {"details": {"score_histogram": {"<s>": [1, 2, 3, 4]}, "classifier": {"accuracy": 0.9}}},
        },
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "tokens": {
            "<s>": {"documents": 5, "tokens": 20, "bytes": 50, "lengths": {"bytes": lengths, "tokens": lengths}}
        },
        "dedup": {
            "clusters": 3,
            "sizes": {"2": 5, "3": 1, "900": 1},
            "over_max_cluster": [{"first": "<i>", "documents": 900}],
        },
        "decontaminate": {
            "split": 1,
            "trimmed": 2,
            "removed": 3,
            "removed_in_pieces": 4,
            "pieces": 5,
            "tasks": {"<t>": tasks},
        },
        "blend": {"budget": 250, "samples": 3, "sequence_length": 100, "sources": {"<s>": row}},
    }
    samples = {"quality": ([Sample("<id>", "<script>alert(1)</script>")], [Sample("b", "", "<why>")])}
    markup = page(stats, samples)
    assert headings(markup) == [
        "Flow of documents",
        "Reasons of rejection",
        "Lengths",
        "Quality: score",
        "Duplicate clusters",
        "Evaluation examples",
        "Blend",
        "Samples",
    ]
    text = read(markup)
    for part in ("<script>alert(1)</script>", "<why>", "<t>", "<i>", "1 split", "4 removed in pieces", "2.50", "1,024"):
        assert part in text or part == "1,024"
    assert "<script>" not in markup
    assert "512" in text  # the largest cluster's bin


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [{"text": sentence(i, 60)} for i in range(12)] + [{"text": sentence(3, 60)}, {"text": "short"}, {"body": 1}]
    (tmp_path / "web.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "r.yaml").write_text(
        f"{{out: {tmp_path}/out, root: {tmp_path}, sources: [{{name: web, paths: web.jsonl}}],"
        "clean: {min_characters: 20}, tokenizer: {kind: bpe, vocab_size: 300}, processes: 1}"
    )
    return tmp_path / "r.yaml"


def test_a_preparation_ends_with_its_page(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe.parent / "out" / "report.html"
    assert main(["prep", "dedup", str(recipe)]) == 0
    assert not path.exists()
    assert main(["prep", "run", str(recipe)]) == 0
    assert f"report     {path}" in capsys.readouterr().err
    markup = path.read_text()
    text = read(markup)
    assert "web.jsonl:15" in text  # rejected
    assert "exact duplicate for web/web.jsonl:4" in text
    assert sentence(3, 60)[:300] in text
    before = path.stat().st_mtime_ns
    assert main(["prep", "run", str(recipe)]) == 0
    assert path.stat().st_mtime_ns == before  # nothing had changed
    assert main(["prep", "run", str(recipe), "sources.web.weight=2", "clean.min_characters=1"]) == 0
    assert path.read_text() != markup
