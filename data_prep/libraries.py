"""Libraries that some stages need and `prep run` of plain text does not: the extra `web`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from data_prep.recipe import Recipe
from megatron_nlg.config.errors import Problem

_NEEDED = {"justext": ("justext", "lxml_html_clean"), "trafilatura": ("trafilatura", "lxml_html_clean")}


def missing_libraries(recipe: Recipe) -> Iterator[Problem]:
    """Those that a recipe needs and that can't be imported; found before anything is written."""
    needed: dict[str, tuple[str, ...]] = {}
    if recipe.extract is not None:
        needed["extract.method"] = _NEEDED[recipe.extract.method]
        if recipe.extract.method == "justext" and recipe.extract.stop_words == "auto":
            needed["extract.stop_words"] = ("pycld2",)
    if recipe.language is not None:
        needed["language"] = ("pycld2",)
    for key, names in needed.items():
        for name in names:
            if find_spec(name) is None:
                yield Problem(key, f"needs {name}, which is not installed", "pip install 'megatron_nlg[web]'")
