"""HTML to text by jusText or trafilatura."""

from __future__ import annotations

from functools import lru_cache

from data_prep.language import detect
from data_prep.recipe.extract import Extract


def extract_text(html: str, rules: Extract) -> str:
    """The page's running text, paragraphs apart by a blank line; empty when it has none.

    Whatever a damaged page makes the parsers raise comes out as it is.
    """
    if rules.method == "trafilatura":
        import trafilatura

        return trafilatura.extract(html, include_comments=False, deduplicate=False) or ""
    import justext

    # A str that declares an encoding is refused by lxml, and bytes without one are guessed at.
    data, words = html.encode(), _stop_words(html, rules.stop_words)
    # Without stop words nothing may hang on their share: jusText's language-independent mode.
    shares = {} if words else {"stopwords_low": 0, "stopwords_high": 0}
    paragraphs = justext.justext(data, words, encoding="utf-8", **shares)
    return "\n\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


def _stop_words(html: str, name: str) -> frozenset[str]:
    if name == "auto":
        return _of_language(detect(html, plain=False).name)
    return _of_language(name)


@lru_cache(maxsize=64)
def _of_language(name: str) -> frozenset[str]:
    import justext

    known = {each.lower(): each for each in justext.get_stoplists()}
    found = known.get(name.lower())
    return frozenset(justext.get_stoplist(found)) if found else frozenset()
