"""HTML to text, and its language."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_prep.recipe.kinds import Strings
from megatron_nlg.config.base import Section


class Extract(Section):
    """The text of HTML documents, without menus, footers and advertising. Other documents pass untouched."""

    sources: Strings | None = None
    """Names of the sources it is for; null for all."""
    method: Literal["justext", "trafilatura"] = "justext"
    """jusText (MT-NLG's) keeps paragraphs by length, links and stop words; trafilatura goes by the page's structure."""
    stop_words: str = "auto"
    """jusText's list of stop words, such as English. auto: of each page's language, as pycld2 sees it; none where
    jusText has no list for it, or when this says none."""


class Language(Section):
    """Which languages are kept. pycld2's label and share of the text become attributes language, language_score."""

    sources: Strings | None = None
    """Names of the sources it is for; null for all."""
    keep: Strings | None = ("en",)
    """Codes of the languages that are kept (ISO 639-1, such as en, de, zh); null keeps all and labels them."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the text that must be in that language; below it a document goes as uncertain_language."""
