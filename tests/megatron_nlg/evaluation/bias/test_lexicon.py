"""Lexicons in both published layouts, parts of speech and taggers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_nlg.config.errors import InputError
from megatron_nlg.evaluation.bias.lexicon import read_sentiwordnet, read_vader
from megatron_nlg.evaluation.bias.tagger import by_lexicon, choose_tagger
from tests.megatron_nlg.evaluation.bias.fixture import SENTI, write_all

LEMMA = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
EIGHTH = st.integers(0, 4).map(lambda n: n / 8)


def test_scores_weigh_senses_by_their_number(tmp_path: Path) -> None:
    """good: (0.75 / 1 + 0.25 / 2) / (1 + 1 / 2) as an adjective, which has more senses than the noun."""
    lexicon = read_sentiwordnet(write_all(tmp_path) / "lexicons" / "sentiwordnet.csv")
    assert lexicon.scores["good", "adjective"] == pytest.approx(0.875 / 1.5)
    assert lexicon.part_of("good") == "adjective" and lexicon.part_of("dog") == "noun"
    assert lexicon.part_of("kind") == "noun"  # two senses against one
    assert lexicon.part_of("unknown") is None and lexicon.score("dog") is None
    assert lexicon.score("kind") == 0.75 and lexicon.score("badly") == -0.25
    tag = by_lexicon(lexicon)
    assert tag("Good dogs, badly-kept; the POOR dog is good. Very kind!") == ["good", "poor", "good"]
    assert choose_tagger("lexicon", lexicon)("a poor dog") == ["poor"]


def test_the_wide_layout_is_the_same(tmp_path: Path) -> None:
    wide = tmp_path / "SentiWordNet_3.0.txt"
    lines = ["# POS\tID\tPosScore\tNegScore\tSynsetTerms\tGloss"]
    lines += [f'{p}\t0000{i}\t{a}\t{b}\t{terms}\ta gloss; "it"' for i, (p, a, b, terms) in enumerate(SENTI)]
    wide.write_text("\n".join(lines) + "\n#\n")
    assert read_sentiwordnet(wide) == read_sentiwordnet(write_all(tmp_path) / "lexicons" / "sentiwordnet.csv")


@given(st.lists(st.tuples(st.sampled_from("asrnv"), EIGHTH, EIGHTH, LEMMA, st.integers(1, 9)), min_size=1, max_size=9))
def test_any_table(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float, float, str, int]]) -> None:
    path = tmp_path_factory.mktemp("l") / "l.tsv"
    path.write_text("".join(f"{p}\t{a}\t{b}\t{word}#{n}\n" for p, a, b, word, n in rows))
    lexicon = read_sentiwordnet(path)
    assert set(lexicon.senses) == {row[3] for row in rows}
    assert all(-1 <= score <= 1 for score in lexicon.scores.values())
    assert sum(sum(counts.values()) for counts in lexicon.senses.values()) == len(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\t0\t0\tword#1\n", "line 1: is 'x | 0 | 0 | word#1'; it must be POS"),
        ("# c\na\t2\t0\tword#1\n", "line 2: '2' is no number from 0 to 1"),
        ("a\t0\tnan\tword#1\n", "line 1: 'nan' is no number"),
        ("a\t0\t0\tword\n", "line 1: 'word' is no term with its sense"),
        ("", "holds no entry"),
    ],
)
def test_broken_sentiwordnet(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_sentiwordnet(tmp_path / "s.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [("good\n", "line 1: is 'good'"), ("\ngood\t9\n", "line 2: '9' is no number from -4"), ("", "holds no entry")],
)
def test_broken_vader(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_vader(tmp_path / "v.txt")


def test_vader_and_taggers_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_vader(write_all(tmp_path) / "lexicons" / "vader_lexicon.txt") == {"good": 1.9, "bad": -2.5, ":)": 2.0}
    with pytest.raises(InputError, match="needs SentiWordNet's table; add its folder"):
        choose_tagger("lexicon", None)
    for name in ("spacy", "nltk"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(InputError, match=f"--tagger {name}: needs .* use --tagger lexicon"):
            choose_tagger(name, None)


def test_the_real_lexicons(real_data: Path) -> None:
    lexicon = read_sentiwordnet(real_data / "lexicon" / "sentiwordnet_pos_neg.csv.xz")
    tag = by_lexicon(lexicon)
    assert tag("She was very beautiful and extremely intelligent, with long dark hair.") == [
        "beautiful", "extremely", "intelligent", "long", "dark"
    ]  # fmt: skip
    assert (lexicon.score("happy") or 0) > 0 > (lexicon.score("terrible") or 0)
    assert read_vader(real_data / "lexicon" / "vader_lexicon.txt")["good"] == 1.9
