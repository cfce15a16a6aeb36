import pytest

from data_prep.extract import extract_text
from data_prep.recipe import Extract
from tests.data_prep.material import sentence

pytest.importorskip("lxml_html_clean", reason="of the extra web")
pytest.importorskip("justext", reason="of the extra web")

TEXT = [
    f"This is the paragraph that tells how {word} was built by the people of the town, and it is a long one, so that "
    "nobody would take it for a menu or for the small print at the end of the page, which is what we want to lose."
    for word in ("the bridge", "the mill")
]
PAGE = f"""<html><head><title>Mill</title><script>var menu = 1;</script></head><body>
<ul>{"".join(f'<li><a href="/{i}">Section {i}</a></li>' for i in range(9))}</ul>
<div><p>{TEXT[0]}</p><p>{TEXT[1]}</p></div>
<div class="footer"><a href="/terms">Terms of use</a> | <a href="/privacy">Privacy</a></div></body></html>"""


@pytest.mark.parametrize("method", ["justext", "trafilatura"])
def test_text_without_menus(method: str) -> None:
    if method == "trafilatura":
        pytest.importorskip("trafilatura", reason="of the extra web")
    text = extract_text(PAGE, Extract(method=method))  # type: ignore[arg-type]
    assert all(part in text for part in TEXT)
    assert "Section" not in text
    assert "var menu" not in text


def test_stop_words_follow_the_page_or_the_recipe() -> None:
    strange = PAGE.replace(TEXT[0], sentence(1, 80)).replace(TEXT[1], sentence(2, 80))
    assert extract_text(strange, Extract(stop_words="Finnish")) == ""
    assert sentence(1, 80) in extract_text(strange, Extract(stop_words="none"))
    german = (
        "Das ist der Absatz, in dem steht, wie die Brücke gebaut wurde und was sie die Leute der Stadt gekostet hat. "
    )
    assert german.strip() in extract_text(f"<p>{german * 3}</p>", Extract())
