"""The quality classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from data_prep.recipe.kinds import Count, Positive, Strings
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import Problem


class Quality(Section):
    """A linear classifier of words and word 2-grams, trained here or given, and what is kept by its scores.

    The score (0 to 1) becomes the attribute quality_score (MT-NLG, section 3; the rule is GPT-3's, appendix A).
    """

    sources: Strings | None = None
    """Names of the sources that are scored and thinned out; null for all."""
    positives: Strings | None = None
    """Names of sources whose documents are good text: the classifier learns from them."""
    negatives: Strings | None = None
    """Names of sources whose documents are raw web text, mostly not good."""
    train_documents: Positive = 20_000
    """At most about this many documents of each side are learnt from, drawn evenly; a tenth of them is held out."""
    model: str | None = None
    """Folder with a trained classifier (quality.safetensors, quality.json), as shards/quality of an earlier
    preparation, instead of positives and negatives."""
    rule: Literal["pareto", "threshold"] = "pareto"
    """pareto: a document is kept when a draw from a Pareto(alpha) distribution (Lomax, from 0 on) exceeds 1 - score,
    so that some low scores stay; the draw comes from the recipe's seed and the document's id. threshold: by score."""
    alpha: Annotated[float, Field(gt=0)] = 3.0
    """Of pareto; larger is stricter."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of threshold: lower scores go."""
    bucket_bits: Annotated[int, Field(ge=10, le=26)] = 20
    """Words and 2-grams are hashed into 2 to this power of weights."""
    max_words: Count = 1000
    """Words at a document's start that are looked at; 0 for all."""


def quality_problems(quality: Quality | None, sources: Sequence[str]) -> Iterator[Problem]:
    """What no single field can say."""
    if quality is None:
        return
    sides = (quality.positives, quality.negatives)
    if quality.model is not None and sides != (None, None):
        yield Problem("quality.model", "is given, with positives or negatives", "leave one of the two out")
    if quality.model is None and not (quality.positives and quality.negatives):
        yield Problem("quality.positives", "and quality.negatives are required to train", "or give quality.model")
    for key, names in zip(("positives", "negatives"), sides, strict=True):
        for name in names or ():
            if name not in sources:
                yield Problem(f"quality.{key}", f"no source {name!r}", f"known: {', '.join(sources)}")
    for name in set(quality.positives or ()) & set(quality.negatives or ()):
        yield Problem("quality.negatives", f"{name!r} is among the positives too", "leave it out of one")
