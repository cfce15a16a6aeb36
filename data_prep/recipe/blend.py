"""How much of each source training reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import Field

from data_prep.recipe.kinds import Positive
from megatron_nlg.config.base import Section
from megatron_nlg.config.errors import Problem

_Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BlendRule(Section):
    """Where the weights of the sources come from, and what is reported of them."""

    weights: Literal["given", "tokens", "epochs"] = "given"
    """given: each source's own `weight`; tokens: tokens^(1/temperature); epochs: `epochs` times tokens."""
    temperature: Annotated[float, Field(ge=0.1, allow_inf_nan=False)] = 1.0
    """For weights by tokens: 1 is in proportion to them; the higher, the more equal the sources."""
    epochs: dict[str, _Above] = Field(default_factory=dict)
    """For weights by epochs: source -> how often it is read, relative to the others."""
    tokens: Positive | None = None
    """Tokens of a training run, for which epochs and samples are reported; the corpus's own number when not given."""
    sequence_length: Positive = 2048
    """Tokens in a sample, for that report."""


def blend_problems(rule: BlendRule, sources: Collection[str], key: str = "blend") -> Iterator[Problem]:
    """What no single field can say; `sources` are the names to be blended."""
    known = ", ".join(sources)
    for name in rule.epochs:
        if name not in sources:
            yield Problem(f"{key}.epochs.{name}", "there is no such source", f"known: {known}")
    missing = [name for name in sources if name not in rule.epochs]
    if rule.weights == "epochs" and missing:
        yield Problem(f"{key}.epochs", f"says nothing of {', '.join(missing)}", "give epochs for every source")
    if rule.weights != "tokens" and rule.temperature != 1:
        yield Problem(f"{key}.temperature", f"{rule.temperature:g} belongs to weights: tokens", "leave it out")
