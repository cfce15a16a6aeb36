"""HANS in its published formats, and lines that are refused by their number."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.hans.reader import HEURISTICS, Example, read_examples, sentence
from tests.megatron_nlg.evaluation.hans.fixture import rows, write_hans

WORD = st.text(st.characters(categories=("L",), codec="utf-8"), min_size=1, max_size=6)
SENTENCE = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
ROW = st.fixed_dictionaries(
    {
        "gold_label": st.sampled_from(["entailment", "non-entailment"]),
        "sentence1": SENTENCE,
        "sentence2": SENTENCE,
        "heuristic": st.sampled_from(HEURISTICS),
        "subcase": WORD,
    }
)


def test_all_published_formats_hold_the_same(tmp_path: Path) -> None:
    text = write_hans(tmp_path / "heuristics_evaluation_set.txt", 2)
    lines = tmp_path / "heuristics_evaluation_set.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows(2)))
    packed = tmp_path / "h.tsv.xz"
    packed.write_bytes(lzma.compress(text.read_bytes()))
    examples = read_examples(text)
    assert len(examples) == 24 and read_examples(lines) == examples == read_examples(packed)
    first = examples[0]
    assert first.name == "ex0" and first.entailed and first.heuristic == "lexical_overlap" and first.subcase == "le_0"
    assert first.premise == first.hypothesis and first.premise.endswith("t.") is False
    assert " ." not in first.premise


@given(st.lists(ROW, min_size=1, max_size=6))
def test_any_rows(tmp_path_factory: pytest.TempPathFactory, some: list[dict[str, str]]) -> None:
    path = tmp_path_factory.mktemp("h") / "h.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in some) + "\n\n")
    assert read_examples(path) == [
        Example(str(i), *(sentence(r[f"sentence{n}"]) for n in (1, 2)), r["gold_label"] == "entailment", r["heuristic"],
                r["subcase"])
        for i, r in enumerate(some)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold_label": "neutral"}, "line 3: gold_label is 'neutral'; it must be one of entailment, non-entailment"),
        ({"heuristic": "luck"}, "line 3: heuristic is 'luck'; it must be one of lexical_overlap"),
        ({"sentence2": " "}, "line 3: sentence2 is empty"),
        ({"pairID": "ex0"}, "line 3: pairID 'ex0' comes a second time"),
    ],
)
def test_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    some = rows(1)
    some[1] |= change
    names = list(some[0])
    path = tmp_path / "h.txt"
    path.write_text("".join("\t".join(row) + "\n" for row in [names, *([r[n] for n in names] for r in some)]))
    with pytest.raises(InputError, match=f"h.txt, {message}"):
        read_examples(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no example"),
        ('{"gold_label"\n', "line 1: not valid JSON"),
        ("[]\n", "line 1: an object is expected, not list"),
        ('\n{"gold_label": "entailment", "sentence1": 3}\n', "line 2: sentence1 is no text but 3"),
    ],
)
def test_broken_json_lines(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "h.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path / "h.jsonl")


def test_the_regenerated_file(real_data: Path) -> None:
    examples = read_examples(real_data / "eval" / "hans" / "hans_generated_seed0.tsv.xz")
    assert len(examples) == 30000 and sum(e.entailed for e in examples) == 15000
    assert len({e.subcase for e in examples}) == 30
