"""Deduplication."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from data_prep.recipe.kinds import Positive
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import Problem


class Dedup(Section):
    """Duplicates: of each group only the first document of the first source in the recipe's order survives."""

    exact: bool = True
    """Drop documents that are equal but for case and white space."""
    fuzzy: bool = True
    """Drop documents whose sets of word n-grams are similar: MinHash candidates, verified, connected components."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of two documents from which on they are one."""
    num_perm: Positive = 260
    """Min-hashes of a document."""
    bands: Positive | None = 20
    """Bands of min-hashes; two documents are compared when all rows of one band agree. null, with rows: datasketch's
    optimum for threshold and num_perm."""
    rows: Positive | None = 13
    """Min-hashes in a band; bands × rows may not exceed num_perm."""
    shingle_words: Positive = 5
    """Words in an n-gram."""


def dedup_problems(dedup: Dedup) -> Iterator[Problem]:
    """What no single field can say."""
    if (dedup.bands is None) != (dedup.rows is None):
        yield Problem("dedup.bands", f"{dedup.bands}, with dedup.rows {dedup.rows}", "give both, or null for both")
    elif dedup.bands and dedup.rows and dedup.bands * dedup.rows > dedup.num_perm:
        yield Problem(
            "dedup.num_perm",
            f"{dedup.num_perm} min-hashes are fewer than bands {dedup.bands} × rows {dedup.rows}",
            "raise it, or set bands and rows to null for datasketch's optimum",
        )
