"""Sources, weights and counts for training: `blend.yaml`."""

from __future__ import annotations

from typing import Any

from data_prep.blend import Blend, BlendSource, BlendTokenizer, write_blend
from data_prep.stages.base import Progress, Stage
from data_prep.weights import report, weights


class WriteBlend(Stage):
    """Always written anew: it costs nothing."""

    name = "blend"

    def run(self, progress: Progress) -> Blend:
        """Write `blend.yaml`."""
        meta, tokens = progress.done["tokenizer"].summary, progress.done["tokenize"].summary
        weight = source_weights(progress)
        sources = [
            BlendSource(
                name=source.name,
                tokens=f"tokens/{source.name}",
                weight=weight[source.name],
                documents=tokens[source.name]["documents"],
                token_count=tokens[source.name]["tokens"],
            )
            for source in progress.recipe.sources
        ]
        blend = Blend(tokenizer=BlendTokenizer(path="tokenizer", **meta), sources=tuple(sources))
        write_blend(progress.job.out / "blend.yaml", blend)
        return blend


def source_weights(progress: Progress) -> dict[str, float]:
    """Source -> weight, by the recipe's rule."""
    given = {source.name: source.weight for source in progress.recipe.sources}
    return weights(progress.recipe.blend, given, _token_counts(progress))


def blend_report(progress: Progress) -> dict[str, Any]:
    """What training on the recipe's budget reads of each source: the part of stats.json."""
    return report(progress.recipe.blend, source_weights(progress), _token_counts(progress))


def _token_counts(progress: Progress) -> dict[str, int]:
    return {name: about["tokens"] for name, about in progress.done["tokenize"].summary.items()}
