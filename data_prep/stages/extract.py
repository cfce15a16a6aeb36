"""HTML to text: `shards/extract/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.execution.units import Result
from data_prep.extract import extract_text
from data_prep.readers.base import HTML
from data_prep.recipe import Extract as Rules
from data_prep.recipe import Recipe
from data_prep.shards import ShardWriter, read_batches, text_bytes, with_attributes, with_texts
from data_prep.stages.base import ShardStage, Unit, keep_documents
from data_prep.tally import Tally

_PAGES = 64
"""Pages at a time: the parsers' trees are many times as large as the text."""


class Extract(ShardStage):
    """MT-NLG, section 3. Off in a recipe without the section."""

    name = "extract"
    mend = "choose the other extract.method, or extract.stop_words of the pages' language"

    def wanted(self, recipe: Recipe) -> bool:
        """Whether the section is there."""
        return recipe.extract is not None

    def rules(self, recipe: Recipe) -> Rules:
        """`extract`."""
        assert recipe.extract is not None
        return recipe.extract

    @property
    def unit(self) -> Unit:
        """See extract_unit."""
        return extract_unit


def extract_unit(work: Path, name: str, task: tuple[Path, Rules]) -> Result:
    """Extract one shard into a shard of the same name."""
    path, rules = task
    tally = Tally()
    with ShardWriter(work / path.name) as writer:
        for batch in _small(read_batches(path)):
            writer.write(_extract(batch, rules, tally))
    return {"tally": tally.as_json()}


def _small(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if pc.any(_pages(batch)).as_py():
            yield from (batch.slice(start, _PAGES) for start in range(0, batch.num_rows, _PAGES))
        else:
            yield batch


def _pages(batch: pa.RecordBatch) -> pa.Array:
    """Which documents are HTML."""
    return pc.fill_null(pc.match_substring(batch.column("attributes"), f'"content_type": "{HTML}"'), False)


def _extract(batch: pa.RecordBatch, rules: Rules, tally: Tally) -> pa.RecordBatch:
    pages, sizes = _pages(batch), text_bytes(batch.column("text"))
    texts: list[str] = []
    damaged = np.zeros(batch.num_rows, bool)
    rows = np.flatnonzero(pages.to_numpy(zero_copy_only=False))
    for row in rows:
        try:
            texts.append(extract_text(batch.column("text")[int(row)].as_py(), rules))
        except Exception:  # of lxml and what stands on it: one page is not the end
            texts.append("")
            damaged[row] = True
    changed = pc.replace_with_mask(batch.column("text"), pages, pa.array(texts, pa.large_string()))
    done = with_attributes(with_texts(batch, changed), {"extractor": pc.if_else(pages, f'"{rules.method}"', None)})
    nothing = np.zeros(batch.num_rows, bool)
    nothing[rows] = [not text.strip() for text in texts]
    return keep_documents(done, sizes, [("damaged_html", damaged), ("no_content", nothing)], tally)
