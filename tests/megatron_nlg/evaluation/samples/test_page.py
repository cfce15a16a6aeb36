"""The page: checkpoints side by side, everything escaped."""

from __future__ import annotations

from pathlib import Path

from megatron_nlg.evaluation.samples.book import Column
from megatron_nlg.evaluation.samples.page import page
from megatron_nlg.evaluation.samples.prompts import entries, read_prompts
from tests.megatron_nlg.evaluation.samples.test_prompts import OWN, write


def test_the_page(tmp_path: Path) -> None:
    kind = {"kind": "A<b", "note": "<i>", "before": "x<y", "prompts": [{"text": "1 < 2?", "answers": ["yes"]}]}
    book = read_prompts(write(tmp_path, OWN | {"kinds": [kind]}))
    texts = [Column("one", ["<u>yes</u>", "\n\n\n"]), Column("two", ["no", "oh\n\n\n\nyes"])]
    html = page(book, entries(book, 0), texts)
    assert html.count("1 &lt; 2?") == 1 and "x&lt;y" in html and "<u>" not in html and "<i>" not in html
    assert html.count('<span class="badge good">answered</span>') == 1  # `yes` in two's first line only
    assert "&lt;u&gt;yes&lt;/u&gt;" in html and "(nothing but blanks)" in html and "oh\n\nyes" in html
    assert html.count("<th>one</th>") == html.count("<th>two</th>") == 1
    assert "<td>one</td><td>greedy</td>" in html and html.count('<td class="n">1 of 1</td>') == 1
    assert "http" not in html.replace("http-equiv", "")
