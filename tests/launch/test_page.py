"""The plan's page: whole, self-contained, with every picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from megatron_nlg import cli

GPT3 = ("plan", "configs/runs/gpt3_13b.yaml", "--cluster", "configs/clusters/selene.yaml", "--nodes", "8")


@pytest.mark.parametrize("words", [(), ("--fixed",)], ids=["search", "fixed"])
def test_the_page(tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "plan.html"
    assert cli.main([*GPT3, *words, "--html", str(page), "--price", "2", "--mtbf", "20000"]) == 0, (
        capsys.readouterr().err
    )
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    wanted = ["Where the time goes", "The pipeline", "Memory by stage", "The run", "Scaling"]
    assert [title for title in titles if title in wanted] == wanted
    assert ("Layouts" in titles) == ("What is left out, and why" in titles) == (not words)
    assert text.count('<svg class="chart"') == 4
    assert "checkpoint.interval=" in text
    assert not re.search(r'(src|href)="(?!#|data:)', text), "nothing is loaded from elsewhere"
    assert len(re.findall(r'id="([^"]+)"', text)) == len(set(re.findall(r'id="([^"]+)"', text)))


def test_a_page_that_can_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*GPT3, "--fixed", "--html", str(tmp_path / "none" / "plan.html")]) == 2
    assert "can't be written" in capsys.readouterr().err
