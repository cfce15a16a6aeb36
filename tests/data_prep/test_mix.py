from pathlib import Path

import numpy as np
import pytest

from data_prep.blend import read_blend
from data_prep.files import write_json
from data_prep.indexed import IndexedWriter
from data_prep.tokenizer import CharacterTokenizer
from megatron_nlg.cli import main


def preparation(folder: Path, counts: dict[str, int], characters: str = "abc") -> None:
    tokenizer = CharacterTokenizer(characters)
    tokenizer.save(folder / "tokenizer")
    (folder / "tokens").mkdir()
    for name, count in counts.items():
        with IndexedWriter(folder / "tokens" / name, np.dtype(np.uint16)) as writer:
            writer.add(np.zeros(count, np.int64))
        write_json(folder / "tokens" / f"{name}.json", {"tokenizer_identity": tokenizer.identity})


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    preparation(tmp_path / "one", {"web": 900, "books": 100})
    preparation(tmp_path / "two", {"web": 400})
    (tmp_path / "mix.yaml").write_text(
        """
        out: mixed
        sources:
          - {tokens: one/tokens/web}
          - {tokens: one/tokens/books, weight: 2}
          - {tokens: two/tokens/web, name: news, weight: 1}
        """
    )
    return tmp_path


def mix(*words: object) -> int:
    return main(["prep", "mix", "mix.yaml", *map(str, words)])


def test_sources_of_two_preparations(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mix("--tokens", "2800", "--sequence-length", "100") == 0
    out, table = capsys.readouterr()
    assert out.strip() == "mixed/blend.yaml"
    blend = read_blend(two / "mixed/blend.yaml")
    assert [(s.name, s.weight, s.token_count) for s in blend.sources] == [
        ("web", 1.0, 900),
        ("books", 2.0, 100),
        ("news", 1.0, 400),
    ]
    assert "tokens: ../one/tokens/web\n" in (two / "mixed/blend.yaml").read_text()
    assert table.splitlines()[0] == "2,800 tokens, 28 samples of 100"
    assert [line.split() for line in table.splitlines()[2:]] == [
        ["web", "900", "25.00%", "0.78", "7", "700"],
        ["books", "100", "50.00%", "14.00", "14", "1,400"],
        ["news", "400", "25.00%", "1.75", "7", "700"],
    ]


def test_weights_by_rule_and_a_source_left_out(two: Path) -> None:
    assert mix("blend={weights: tokens, temperature: 2}", "--out", "by_tokens") == 0
    assert [s.weight for s in read_blend(two / "by_tokens/blend.yaml").sources] == pytest.approx([1, 1 / 3, 2 / 3])
    assert mix("blend={weights: epochs, epochs: {web: 1, books: 4, news: 2}}") == 0
    assert [s.weight for s in read_blend(two / "mixed/blend.yaml").sources] == [900, 400, 800]
    sources = "sources=[{tokens: one/tokens/web, weight: 0}, {tokens: two/tokens/web, name: news}]"
    assert mix(sources) == 0
    assert [s.name for s in read_blend(two / "mixed/blend.yaml").sources] == ["news"]


def test_all_problems_at_once(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preparation(two / "three", {"other": 10}, "xyz")
    sources = (
        "sources=[{tokens: one/tokens/web, weight: 0}, {tokens: one/tokens/none, weight: 0},"
        "{tokens: two/tokens/web, weight: 0}, {tokens: three/tokens/other, weight: 0}]"
    )
    assert mix(sources, "blend.temperature=2", "blend.epochs={nobody: 1}") == 2
    message = capsys.readouterr().err
    assert "6 problems" in message
    for part in (
        "sources.2.name: 'web' is given twice",
        "sources: all weights are 0",
        "none.idx: No such file",
        "three/tokens/other was made by tokenizer sha256:",
        "blend.temperature: 2 belongs to weights: tokens",
        "blend.epochs.nobody: there is no such source; known: web, none, web, other",
    ):
        assert part in message
    assert not (two / "mixed").exists()


def test_weights_below_zero_and_unknown_keys(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mix("sources=[{tokens: a, weight: -1}, {tokens: b, weight: .nan}, {tokens: c, weigth: 1}]") == 2
    message = capsys.readouterr().err
    assert "sources.0.weight" in message
    assert "sources.1.weight" in message
    assert "sources.2.weigth: unknown key; did you mean sources.weight?" in message


def test_a_truncated_file_and_a_lost_tokenizer(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = two / "two/tokens/web.bin"
    path.write_bytes(path.read_bytes()[:-2])
    assert mix() == 2
    assert "sources.2.tokens: " in (message := capsys.readouterr().err)
    assert "truncated" in message
    assert mix("sources=[{tokens: one/tokens/web}]") == 0
    (two / "one/tokenizer").rename(two / "elsewhere")
    assert mix("sources=[{tokens: one/tokens/web}]") == 2
    assert "a preparation's tokens/ and tokenizer/ lie side by side" in capsys.readouterr().err
