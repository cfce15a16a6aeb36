import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.clean import clean_text, drop_reason
from data_prep.recipe import Clean


def test_repair_and_white_space() -> None:
    assert clean_text("schÃ¶n \r\n\r\n\r\n\r\n\r\nx\ty \n  z\r", Clean()) == "schön\n\n\nx\ty\n  z"
    assert clean_text("schÃ¶n ", Clean(ftfy=False)) == "schÃ¶n"
    untouched = " a\r\n\n\n\n\nÃ¶ "
    assert clean_text(untouched, Clean(ftfy=False, whitespace=False)) == untouched


@given(text=st.text(st.sampled_from([*list(map(chr, range(256))), "’", "ﬁ", "\u2028"])) | st.from_regex(r"[\t\n -~]*"))
def test_short_cut_equals_ftfy(text: str) -> None:
    assert clean_text(text, Clean(whitespace=False)) == ftfy.fix_text(text)


@given(text=st.text())
def test_white_space_rule_is_idempotent_and_keeps_the_words(text: str) -> None:
    rules = Clean(ftfy=False)
    once = clean_text(text, rules)
    assert clean_text(once, rules) == once
    assert once.split() == text.split()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 512, None),
        ("x" * 511, "too_short"),
        ("x" * 256 + "JavaScript", "too_short"),
        ("enable JavaScript", "boilerplate"),
        (" \n", "empty"),
        ("x" * 5001, "too_long"),
    ],
)
def test_rules_of_the_paper(text: str, reason: str | None) -> None:
    assert drop_reason(text, Clean(max_characters=5000)) == reason


def test_boilerplate_rule_by_itself() -> None:
    rules = Clean(min_characters=0)
    assert drop_reason("a" * 250 + "javascript", rules) is None
    assert drop_reason("a" * 240 + "javascript", rules) == "boilerplate"
