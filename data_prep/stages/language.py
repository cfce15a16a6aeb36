"""Language identification: `shards/language/`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.execution.units import Result
from data_prep.language import UNKNOWN, detect
from data_prep.recipe import Language as Rules
from data_prep.recipe import Recipe
from data_prep.shards import ShardWriter, read_batches, text_bytes, with_attributes
from data_prep.stages.base import ShardStage, Unit, keep_documents
from data_prep.tally import Tally


class Language(ShardStage):
    """MT-NLG, section 3. Off in a recipe without the section."""

    name = "language"
    mend = "add its language to language.keep, or lower language.threshold"

    def wanted(self, recipe: Recipe) -> bool:
        """Whether the section is there."""
        return recipe.language is not None

    def rules(self, recipe: Recipe) -> Rules:
        """`language`."""
        assert recipe.language is not None
        return recipe.language

    @property
    def unit(self) -> Unit:
        """See language_unit."""
        return language_unit

    def summarize(self, results: Mapping[str, Result]) -> dict[str, Any]:
        """Documents that came in, by language."""
        languages: Counter[str] = Counter()
        for result in results.values():
            languages.update(result.get("languages", {}))
        return {"details": {"languages": dict(languages)}}


def language_unit(work: Path, name: str, task: tuple[Path, Rules]) -> Result:
    """Label one shard, and keep what is asked for, in a shard of the same name."""
    path, rules = task
    tally, languages = Tally(), Counter[str]()
    with ShardWriter(work / path.name) as writer:
        for batch in read_batches(path):
            texts = batch.column("text")
            found = [detect(text.as_py()) for text in texts]
            codes, shares = np.array([d.code for d in found]), np.array([d.share for d in found])
            languages.update(codes.tolist())
            labels = pa.array([json.dumps(code) for code in codes.tolist()])
            scores = pa.array([f"{share:.2f}" for share in shares])
            labelled = with_attributes(batch, {"language": labels, "language_score": scores})
            reasons = []
            if rules.keep is not None:
                unsure = (codes == UNKNOWN) | (shares < rules.threshold)
                reasons = [("other_language", ~np.isin(codes, rules.keep) & ~unsure), ("uncertain_language", unsure)]
            writer.write(keep_documents(labelled, text_bytes(texts), reasons, tally))
    return {"tally": tally.as_json(), "languages": dict(languages)}
