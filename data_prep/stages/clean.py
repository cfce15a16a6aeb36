"""Text repair and length rules: `shards/clean/`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.clean import clean_texts, drop_reasons
from data_prep.execution.units import Result
from data_prep.recipe import Clean as Rules
from data_prep.recipe import Recipe
from data_prep.shards import ShardWriter, read_batches, text_bytes, with_texts
from data_prep.stages.base import ShardStage, Unit, keep_documents
from data_prep.tally import Tally


class Clean(ShardStage):
    """MT-NLG, section 3."""

    name = "clean"
    version = 2
    mend = "loosen the recipe's clean section"

    def rules(self, recipe: Recipe) -> Rules:
        """`clean`."""
        return recipe.clean

    @property
    def unit(self) -> Unit:
        """See clean_unit."""
        return clean_unit

    def summarize(self, results: Mapping[str, Result]) -> dict[str, Any]:
        """Addresses masked."""
        masked: Counter[str] = Counter()
        for result in results.values():
            masked.update(result.get("masked", {}))
        return {"details": {"masked": dict(masked)}} if masked else {}


def clean_unit(work: Path, name: str, task: tuple[Path, Rules]) -> Result:
    """Clean one shard into a shard of the same name."""
    path, rules = task
    tally, masked = Tally(), Counter[str]()
    with ShardWriter(work / path.name) as writer:
        for batch in read_batches(path):
            sizes = text_bytes(batch.column("text"))
            texts, counts = clean_texts(batch.column("text"), rules)
            masked.update(counts)
            writer.write(keep_documents(with_texts(batch, texts), sizes, drop_reasons(texts, rules), tally))
    return {"tally": tally.as_json(), "masked": dict(masked)}
