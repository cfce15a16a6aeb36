import pytest

from data_prep.language import detect

pytest.importorskip("pycld2", reason="of the extra web")


def test_languages_and_what_is_none() -> None:
    english = "The committee will meet again next week to decide what should be done about the old bridge."
    german = "Der Ausschuss wird nächste Woche wieder zusammentreten und über die alte Brücke entscheiden."
    assert detect(english)[::2] == ("en", 0.98) or detect(english).share > 0.9
    assert detect(german).code == "de"
    mixed = detect(english * 3 + german)
    assert mixed.code == "en"
    assert 0.6 < mixed.share < 0.9
    assert detect(f"<p lang=en>{german * 3}</p>", plain=False).name == "GERMAN"
    for nothing in ("", "1234 +-*/ 5678", "\x00\x01"):
        assert detect(nothing).code == "un"
        assert detect(nothing).share == 0
