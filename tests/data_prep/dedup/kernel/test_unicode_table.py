import unicodedata
from pathlib import Path

import pytest

from data_prep.dedup.kernel import unicode_table
from data_prep.dedup.kernel.unicode_table import ALONE, NONE, SPACE, WORD, fold, folds, header, kind


def test_the_committed_table_is_the_generators() -> None:
    text = (Path(unicode_table.__file__).parent / "unicode_table.h").read_text(encoding="utf-8")
    if f"Unicode {unicodedata.unidata_version} " not in text.replace(";", " "):
        pytest.skip(f"this Python has Unicode {unicodedata.unidata_version}: the table is another version's")
    assert text == header()


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        ("a_7éш한\u0301²", WORD),
        ("-’。\0😀", NONE),
        ("漢ひカกຂမ\U00020000", ALONE),
        (" \n\u00a0\u3000", SPACE),
    ],
)
def test_kinds(characters: str, expected: int) -> None:
    assert {character: kind(character) for character in characters} == dict.fromkeys(characters, expected)


def test_folding_is_simple_and_idempotent() -> None:
    assert [fold(c) for c in "AÉШẞßİΣςK"] == [*"aéшßßİσσk"]
    changed = [(p, p + distance) for first, last, step, distance in folds() for p in range(first, last + 1, step)]
    assert len(changed) > 1400
    for character, folded in ((chr(a), chr(b)) for a, b in changed):
        assert fold(folded) == folded and kind(folded) == kind(character)
        assert len(folded.encode()) <= 2 * len(character.encode())  # room that content_hash makes
