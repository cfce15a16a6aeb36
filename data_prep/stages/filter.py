"""Heuristics of quality: `shards/filter/`."""

from __future__ import annotations

from pathlib import Path

from data_prep.execution.units import Result
from data_prep.heuristics import failing
from data_prep.recipe import Filter as Rules
from data_prep.recipe import Recipe
from data_prep.shards import ShardWriter, read_batches, text_bytes
from data_prep.stages.base import ShardStage, Unit, keep_documents
from data_prep.tally import Tally


class Filter(ShardStage):
    """Off in a recipe without the section."""

    name = "filter"
    mend = "loosen the recipe's filter section, or restrict it with filter.sources"

    def wanted(self, recipe: Recipe) -> bool:
        """Whether the section is there."""
        return recipe.filter is not None

    def rules(self, recipe: Recipe) -> Rules:
        """`filter`."""
        assert recipe.filter is not None
        return recipe.filter

    @property
    def unit(self) -> Unit:
        """See filter_unit."""
        return filter_unit


def filter_unit(work: Path, name: str, task: tuple[Path, Rules]) -> Result:
    """Filter one shard into a shard of the same name."""
    path, rules = task
    tally = Tally()
    with ShardWriter(work / path.name) as writer:
        for batch in read_batches(path):
            texts = batch.column("text")
            writer.write(keep_documents(batch, text_bytes(texts), failing(texts, rules), tally))
    return {"tally": tally.as_json()}
