"""Deduplication."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from data_prep.recipe.kinds import Positive, whole
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import Problem


class Dedup(Section):
    """Duplicates: of each group only the first document of the first source in the recipe's order survives."""

    exact: bool = True
    """Drop documents that are equal but for case and white space."""
    fuzzy: bool = True
    """Drop documents whose sets of shingles are similar: MinHash candidates, verified, clustered."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of two documents from which on they are one."""
    num_perm: Positive = 128
    """Min-hashes of a document."""
    bands: Positive | None = None
    """Bands of min-hashes; two documents are compared when all rows of one band agree. null, with rows: datasketch's
    optimum for threshold and num_perm with missed pairs weighing most, which is 16 × 8 for 128 min-hashes at 0.8."""
    rows: Positive | None = None
    """Min-hashes in a band; bands × rows may not exceed num_perm."""
    shingle_words: Positive = 5
    """Words in a shingle."""
    shingle_characters: Positive | None = None
    """Characters in a shingle, instead of words."""
    clusters: Literal["anchored", "connected"] = "anchored"
    """anchored: every member is similar to its cluster's anchor. connected: chains of similar documents are one cluster
    (the MT-NLG paper's way), which may join documents that have nothing in common."""
    max_cluster: Positive | None = 10_000
    """Different texts in a cluster. Larger ones are listed in stats.json and nothing but their exact duplicates is
    dropped, since they tell of a template rather than of copies; null for no limit."""
    memory: Annotated[int, BeforeValidator(whole), Field(ge=1 << 20)] = 1 << 30
    """Bytes of band keys that a worker process holds; keys beyond it are compared range by range."""


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
