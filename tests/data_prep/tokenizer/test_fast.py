"""gigatoken's ids are Hugging Face's: the check that its being the default rests on."""

import json
import sys
import unicodedata
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokenizer import (
    EOD,
    BytePairTokenizer,
    CharacterTokenizer,
    Encoded,
    HuggingFaceTokenizer,
)
from data_prep.tokenizer.fast import GigatokenEncoder, Unsuited
from tests.data_prep.material import data_folder
from tests.data_prep.tokenizer.texts import TEXTS, arrow

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
RULES: dict[str, Any] = {
    "gpt2": BYTES | {"use_regex": True},
    "llama3": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False},
            BYTES,
        ],
    },
}
NEW_LETTERS = "\u088f\u0c5c\ua7ce\U00010940"
"""Of Unicode 17; the engines are built with different versions of it."""
ODD = (
    "\u00a0\u0085\u1680\u180e\u2028\u2029\u200b\u200d\u3000\ufeff\ufffd\x00\x1c\x7f\u0301\u0e33\u0f0b"
    "ſKÅİıßǅʰªⅧ²½٣๓〇一ー龍あꙮ\U0001d7d8\U00020000👩\u200d🚀\ufe0f🇩🇪\U0010ffff\ue000'’"
)


def tokenizer_with(rule: str) -> HuggingFaceTokenizer:
    """Trained on multilingual text, so that merges reach into characters and over their edges."""
    letters = [chr(c) for c in range(0xA1, 0x3000, 7) if unicodedata.category(chr(c))[0] in "LN"]
    texts = [*TEXTS, *(f"{a}{b} {a}1 {b}s'{a}  !{b}" for a, b in pairwise(letters))]
    tree = BytePairTokenizer.train(texts, 900).tree | {"pre_tokenizer": RULES[rule]}
    return HuggingFaceTokenizer(json.dumps(tree))


@pytest.fixture(scope="module", params=list(RULES))
def pair(request: pytest.FixtureRequest) -> tuple[HuggingFaceTokenizer, GigatokenEncoder]:
    tokenizer = tokenizer_with(request.param)
    return tokenizer, GigatokenEncoder(tokenizer)


def assert_same(pair: tuple[HuggingFaceTokenizer, GigatokenEncoder], texts: list[str]) -> Encoded:
    exact, fast = (encoder.encode_batch(arrow(texts)) for encoder in pair)
    np.testing.assert_array_equal(exact.offsets, fast.offsets)
    np.testing.assert_array_equal(exact.ids, fast.ids)
    return fast


text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(ODD + NEW_LETTERS + "aZ1 \n\t'sSlL"))


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(text, max_size=6))
def test_any_text(pair: tuple[HuggingFaceTokenizer, GigatokenEncoder], texts: list[str]) -> None:
    assert_same(pair, texts)


def test_the_odd_corners_of_unicode(pair: tuple[HuggingFaceTokenizer, GigatokenEncoder]) -> None:
    """All of the basic plane that Unicode has given a meaning, and every odd character beside every other."""
    plane = [c for c in range(0x10000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    texts = ["".join(f"{chr(c)}a {chr(c)}1" for c in plane[i : i + 512]) for i in range(0, len(plane), 512)]
    texts += [a + b + "x" + a + " " + b for a in ODD for b in ODD]
    assert_same(pair, texts)


def test_special_tokens_are_text(pair: tuple[HuggingFaceTokenizer, GigatokenEncoder]) -> None:
    encoded = assert_same(pair, [EOD, f"a{EOD}b", *TEXTS])
    assert pair[0].eod not in encoded.ids


def test_where_the_engines_differ_hugging_face_is_asked() -> None:
    """The engines do differ here, in the ids themselves; and only the documents concerned are encoded twice."""
    tree = BytePairTokenizer.train(TEXTS, 330).tree
    tree["model"]["vocab"]["aà"] = 330  # `a` and the byte E0, with which some of the new letters begin
    tree["model"]["merges"].append(["a", "à"])
    tokenizer = HuggingFaceTokenizer(json.dumps(tree))
    encoder = GigatokenEncoder(tokenizer)
    texts = ["plain", f"a{NEW_LETTERS}a", "", "naïve", f"{NEW_LETTERS}1"]
    batch = arrow(texts)
    naive = encoder._encode_fast(
        np.frombuffer(batch.buffers()[2], np.uint8), np.frombuffer(batch.buffers()[1], np.int64)
    )
    asked: list[list[str]] = []

    class Asked(HuggingFaceTokenizer):
        def encode_batch(self, texts: Any) -> Encoded:
            asked.append(texts.to_pylist())
            return super().encode_batch(texts)

    encoder._exact = Asked(json.dumps(tree))
    assert_same((tokenizer, encoder), texts)
    if naive.lists() == tokenizer.encode_batch(batch).lists():
        pytest.skip("the installed engines agree on Unicode")
    assert asked == [[texts[1], texts[4]]]


def test_characters_are_taken_from_utf8() -> None:
    encoder = GigatokenEncoder(tokenizer_with("gpt2"))
    encoder.encode_batch(arrow(["é€😀", "ÿ"]))
    assert np.flatnonzero(encoder._state)[0x80:].tolist() == [ord("é"), ord("ÿ"), ord("€"), ord("😀")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"normalizer": {"type": "NFC"}}, "has normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "splitting rule"),
        ({"pre_tokenizer": BYTES | {"use_regex": True, "add_prefix_space": True}}, "splitting rule"),
        ({"pre_tokenizer": None}, "splitting rule"),
        ({"added_tokens": [{"content": "<x>", "special": False}]}, "added tokens that are not special"),
        ({"model": {"type": "WordLevel", "vocab": {}}}, "not byte-level BPE"),
    ],
)
def test_what_it_is_not_used_for(change: dict[str, Any], reason: str) -> None:
    tokenizer = BytePairTokenizer.train(TEXTS, 300)
    tokenizer.tree = tokenizer.tree | change
    with pytest.raises(Unsuited, match=reason):
        GigatokenEncoder(tokenizer)


def test_patterns_that_the_probe_does_not_see_through() -> None:
    for pattern in (r"[一-龥]+|\s", r"\p{Han}+", r"\x{4e00}", r"[[:alpha:]]"):
        rule = json.loads(json.dumps(RULES["llama3"]).replace(json.dumps(LLAMA_3), json.dumps(pattern)))
        tokenizer = BytePairTokenizer.train(TEXTS, 300)
        tokenizer.tree = tokenizer.tree | {"pre_tokenizer": rule}
        with pytest.raises(Unsuited, match="splitting rule"):
            GigatokenEncoder(tokenizer)


def test_without_gigatoken_or_for_other_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unsuited, match="kind char"):
        GigatokenEncoder(CharacterTokenizer("ab"))
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with pytest.raises(Unsuited, match="not installed"):
        GigatokenEncoder(BytePairTokenizer.train(TEXTS, 300))


def test_gpt2() -> None:
    folder = data_folder("tokenizer")
    tokenizer = BytePairTokenizer.from_gpt2(folder / "gpt2-vocab.json", folder / "gpt2-merges.txt")
    encoder = GigatokenEncoder(tokenizer)
    whole = data_folder("text", "tinyshakespeare.txt").read_text()
    assert_same((tokenizer, encoder), [whole[i : i + 5000] for i in range(0, len(whole), 5000)] + [ODD, ODD[::-1]])
