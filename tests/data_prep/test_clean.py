import re
import unicodedata
from typing import Any

import ftfy
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.clean import WHITE_SPACE, clean_texts, drop_reasons
from data_prep.recipe import Clean

LATIN = st.lists(st.sampled_from([*map(chr, range(256)), "’", "ﬁ", "\u2028", "\n", "<", "&amp;", "Ã¶"])).map("".join)


def clean(text: str, **rules: Any) -> str:
    texts, _ = clean_texts(pa.array([text], pa.large_string()), Clean(**rules))
    return str(texts[0].as_py())


def reason(text: str, **rules: Any) -> str | None:
    found = drop_reasons(pa.array([text], pa.large_string()), Clean(**rules))
    return next((name for name, mask in found if mask[0]), None)


def tidy(text: str) -> str:
    """What the whitespace rule says, in the plainest way."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip()


def test_repair_and_white_space() -> None:
    assert clean("schÃ¶n \r\n\r\n\r\n\r\n\r\nx\ty \n  z\r") == "schön\n\n\nx\ty\n  z"
    assert clean("schÃ¶n ", ftfy=False) == "schÃ¶n"
    untouched = " a\r\n\n\n\n\nÃ¶ "
    assert clean(untouched, ftfy=False, whitespace=False) == untouched


def test_white_space_is_what_python_calls_it() -> None:
    assert set(WHITE_SPACE) == {chr(c) for c in range(0x110000) if chr(c).isspace()}


@given(text=LATIN | st.from_regex(r"[\t\n -~]*"))
def test_line_by_line_equals_ftfy(text: str) -> None:
    assert clean(text, whitespace=False) == ftfy.fix_text(text)


@given(text=st.text() | st.text(st.sampled_from([*WHITE_SPACE, "a", "\n"])))
def test_white_space_rule(text: str) -> None:
    assert clean(text, ftfy=False) == tidy(text)
    assert clean(tidy(text), ftfy=False) == tidy(text)


@given(text=st.text(), form=st.sampled_from(["NFC", "NFKC"]))
def test_normalization(text: str, form: str) -> None:
    if all(unicodedata.category(c) != "Cn" for c in text):  # Arrow may know a newer Unicode than Python
        done = clean(text, ftfy=False, whitespace=False, normalization=form)
        assert done == unicodedata.normalize(form, text)  # type: ignore[arg-type]


def test_most_texts_of_a_batch_are_left_alone() -> None:
    texts = pa.array(["plain", "schÃ¶n", "a \nb", "plain too"], pa.large_string())
    assert clean_texts(texts, Clean())[0].to_pylist() == ["plain", "schön", "a\nb", "plain too"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x" * 512, None),
        ("x" * 511, "too_short"),
        ("x" * 256 + "JavaScript", "too_short"),
        ("enable JavaScript", "boilerplate"),
        (" \n", "empty"),
        ("x" * 5001, "too_long"),
    ],
)
def test_rules_of_the_paper(text: str, expected: str | None) -> None:
    assert reason(text, max_characters=5000) == expected


def test_boilerplate_rule_by_itself() -> None:
    assert reason("a" * 250 + "javascript", min_characters=0) is None
    assert reason("a" * 240 + "javascript", min_characters=0) == "boilerplate"
