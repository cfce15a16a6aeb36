"""Text repair and length rules: `shards/clean/`."""

from __future__ import annotations

from pathlib import Path

from data_prep.clean import clean_text, drop_reason
from data_prep.execution.units import Result
from data_prep.recipe import Clean as Rules
from data_prep.recipe import Recipe
from data_prep.shards import read_documents, write_shard
from data_prep.stages.base import ShardStage, Unit
from data_prep.tally import Tally


class Clean(ShardStage):
    """MT-NLG, section 3."""

    name = "clean"
    mend = "loosen the recipe's clean section"

    def rules(self, recipe: Recipe) -> Rules:
        """`clean`."""
        return recipe.clean

    @property
    def unit(self) -> Unit:
        """See clean_unit."""
        return clean_unit


def clean_unit(work: Path, name: str, task: tuple[Path, Rules]) -> Result:
    """Clean one shard into a shard of the same name."""
    path, rules = task
    tally, kept = Tally(), []
    for document in read_documents(path):
        size = len(document.text.encode())
        text = clean_text(document.text, rules)
        reason = drop_reason(text, rules)
        if reason:
            tally.drop(reason, size)
        else:
            tally.keep(size, len(text.encode()))
            kept.append(document._replace(text=text))
    write_shard(work / path.name, kept)
    return {"tally": tally.as_json()}
