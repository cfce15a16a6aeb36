"""Sources, weights and counts for training: `blend.yaml`."""

from __future__ import annotations

from data_prep.blend import Blend, BlendSource, BlendTokenizer, write_blend
from data_prep.stages.base import Progress, Stage


class WriteBlend(Stage):
    """Always written anew: it costs nothing."""

    name = "blend"

    def run(self, progress: Progress) -> Blend:
        """Write `blend.yaml`."""
        meta, tokens = progress.done["tokenizer"].summary, progress.done["tokenize"].summary
        sources = [
            BlendSource(
                name=source.name,
                tokens=f"tokens/{source.name}",
                weight=source.weight,
                documents=tokens[source.name]["documents"],
                token_count=tokens[source.name]["tokens"],
            )
            for source in progress.recipe.sources
        ]
        blend = Blend(tokenizer=BlendTokenizer(path="tokenizer", **meta), sources=tuple(sources))
        write_blend(progress.job.out / "blend.yaml", blend)
        return blend
